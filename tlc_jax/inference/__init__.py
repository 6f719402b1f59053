"""Floor 4: what trained models are used for."""
