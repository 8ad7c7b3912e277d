"""Trained models: packages, predictions, scores, ensembles."""
