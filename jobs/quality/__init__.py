"""Expectations and their results, profiles of days, bad rows, and the account of every row."""
