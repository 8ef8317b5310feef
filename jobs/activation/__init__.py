"""Acting on what was published: what changed between two days, and who is told of it."""
