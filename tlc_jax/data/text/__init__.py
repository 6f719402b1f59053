"""Running text: sources, rows of packed ids, masking."""
