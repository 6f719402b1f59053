"""Running text: sources, packed rows, masking."""
