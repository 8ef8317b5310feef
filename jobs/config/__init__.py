"""What a person writes: settings, the policy for columns, and the mappings of sources; each typed and strict."""
