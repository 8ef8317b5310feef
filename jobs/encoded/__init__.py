"""What the encoder makes of each customer."""
