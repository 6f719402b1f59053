"""Level 6: the life of a run: begin, resume, branch, average, load; the only place that knows Orbax."""
