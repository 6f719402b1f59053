"""The networks; the only package that imports flax. Parameters leave it as plain dicts."""
