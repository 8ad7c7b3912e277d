"""One training run on Ray Train: `run.train` is the entry point."""
