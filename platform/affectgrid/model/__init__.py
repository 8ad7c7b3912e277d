"""The fusion model: pure torch."""
