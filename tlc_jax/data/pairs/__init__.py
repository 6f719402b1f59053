"""Sentence pairs: sources, cleaning, batches of about equally many tokens."""
