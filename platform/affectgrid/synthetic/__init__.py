"""Corpora made here: `rendered` (videos, sound, labels) and `scale_corpus` (features alone)."""
