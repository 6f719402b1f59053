"""Floor 1: compressed models as files, ours and those of other tools."""
