"""Floor 0: what every room stands on; imports nothing of ours above it."""
