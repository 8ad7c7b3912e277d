"""Encoding on Ray Data."""
