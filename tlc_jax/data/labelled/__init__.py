"""Labelled texts: tables, labels, examples in buckets of lengths."""
