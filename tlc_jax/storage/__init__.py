"""Files and folders, local and in buckets: written whole, locked, sealed, and read without trust."""
