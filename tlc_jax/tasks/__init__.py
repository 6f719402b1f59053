"""Kinds of tasks: each binds a model, its data, its loss and its metrics."""
