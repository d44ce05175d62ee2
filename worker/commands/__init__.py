"""The commands that are more than a few lines, each group in a module of its own; `worker.cli` puts them together."""
