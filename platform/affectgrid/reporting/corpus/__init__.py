"""A data set for a person: its problems, and what is in it."""
