"""What every other package builds on: errors, command lines, clock, names and leaves of parameters."""
