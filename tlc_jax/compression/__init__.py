"""Pure functions that make a tree of parameters smaller (paper 4.2, 4.3)."""
