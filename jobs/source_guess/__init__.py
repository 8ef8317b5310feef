"""A first mapping of a folder of files nobody has described yet: samples are read, and what they hold is guessed by name and value."""
