"""Encoded features: the store, its fingerprints and references, sources, and the quarantine."""
