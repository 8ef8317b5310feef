"""Who belongs to which segment, what the segments are and how they came to be."""
