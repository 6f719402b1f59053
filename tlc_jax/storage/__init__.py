"""Level 2: files and folders, local and in buckets: sealed, locked, claimed, read from strangers."""
