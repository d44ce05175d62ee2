"""The truth: the copy, and the loops that keep it right."""
