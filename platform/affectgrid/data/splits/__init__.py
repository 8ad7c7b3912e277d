"""A split of a data set as training reads it: arrays in memory, or maps of files."""
