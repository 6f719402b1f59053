"""Sentence pairs: sources, cleaning, batches of as many tokens."""
