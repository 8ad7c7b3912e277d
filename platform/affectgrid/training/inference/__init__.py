"""Trained models: `package`, `predict` (predictions and scores), `smoothing`, `ensemble`, `explain`, `cost`."""
