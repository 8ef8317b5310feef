"""What a mapping makes of the first rows of its files: landed and cleaned in a scratch lake, then looked through."""
