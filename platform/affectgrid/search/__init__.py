"""Searching: `space` is what may be tried (no Optuna), `study` what was tried."""
