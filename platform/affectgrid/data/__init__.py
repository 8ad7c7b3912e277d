"""Annotations, catalogs, the feature store and the rendered corpus."""
