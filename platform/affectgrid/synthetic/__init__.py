"""Corpora made here: the rendered one (videos, sound, labels) and the scale corpus (features alone)."""
