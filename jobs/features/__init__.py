"""Per customer and day what adds up, then one row per customer as of a day."""
