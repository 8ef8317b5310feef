"""Time and memory of the whole flow, measured as a user meets it."""
