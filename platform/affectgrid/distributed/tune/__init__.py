"""A study on Ray Tune: `run.tune` is the entry point."""
