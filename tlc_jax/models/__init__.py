"""Floor 1: the networks, and the only place that knows flax. Parameters leave it as plain dicts."""
