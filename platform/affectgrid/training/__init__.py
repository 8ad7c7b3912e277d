"""Training runs: configuration, loop, checkpoints, inference."""
