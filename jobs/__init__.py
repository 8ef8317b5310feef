"""Shoal's jobs: what runs in the Spark and the training environment."""
