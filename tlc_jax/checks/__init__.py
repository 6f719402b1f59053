"""Checks of a machine and its installation before a run: what `doctor` prints."""
