"""From a trained model to a compressed one: recovery, byte budgets, sensitivity."""
