"""The published tables: the only ones BI reads."""
