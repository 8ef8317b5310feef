"""Where tables, models and files are read and written."""
