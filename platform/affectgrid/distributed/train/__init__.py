"""One training run on Ray Train."""
