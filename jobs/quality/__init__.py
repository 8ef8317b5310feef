"""What is known of every table: expectations and their results, profiles by day, bad rows, and what became of every row."""
