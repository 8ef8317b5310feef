"""Source files as received: text, with the file and row of origin."""
