"""Floor 4: from a trained model to a compressed one."""
