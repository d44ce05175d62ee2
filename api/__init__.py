"""A letter box and a window: the web process."""
