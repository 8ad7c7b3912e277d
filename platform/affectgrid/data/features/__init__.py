"""Encoded features: `store`, `streams` (fingerprints), `table`, `sources`, `references`, and the `quarantine`."""
