"""Distributed experiments on valence-arousal estimation from video."""

__version__ = "0.1.0"
