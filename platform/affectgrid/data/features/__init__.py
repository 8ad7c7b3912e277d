"""Encoded features: the store, what its fingerprints hash, what is left to encode, what cannot be."""
