"""State, step, loop and evaluation; the only package that imports optax."""
