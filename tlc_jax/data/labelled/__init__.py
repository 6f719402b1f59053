"""Labelled text: data sets, tables, labels, encoded examples in batches of few lengths."""
