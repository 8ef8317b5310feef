"""The vectors that the encoder gives the customers."""
