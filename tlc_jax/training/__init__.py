"""Floor 3: state, step, loop, evaluation, checkpoints; the only place that knows optax and orbax."""
