"""Floor 5: comparisons of many runs."""
