"""Text in, batches out. No jax here: a batch is a dict of numpy arrays."""
