"""Floor 2: a task binds a model, its data, its loss and its metrics."""
