"""Statistics of campaigns: who is held out, what a campaign changed, and for whom. Pure functions on NumPy arrays."""
