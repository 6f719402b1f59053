"""The life of a run: begin, resume, branch, average, load; the only package that imports orbax."""
