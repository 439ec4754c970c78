"""State: what is kept, and for whom."""
