"""Public data sets, and any text or table, written in the formats that this project reads."""
