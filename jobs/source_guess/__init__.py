"""A first mapping of a folder of files: samples are read, and what they hold is guessed by names and values."""
