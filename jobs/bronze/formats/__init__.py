"""How the bytes of a source file become rows of text, a module for each format.

Each has `read_names(file)`, the columns, and `read_batches(file, malformed)`, Arrow batches with a text column for each of them.
"""
