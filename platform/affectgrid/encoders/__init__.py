"""Frozen encoders of images, texts and sound."""
