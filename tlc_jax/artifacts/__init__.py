"""Compressed models as files: the format of this project and those of other programs."""
