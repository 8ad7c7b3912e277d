"""A split of a data set as training reads it: arrays in memory (`resident`), or memory-mapped files (`mapped`)."""
