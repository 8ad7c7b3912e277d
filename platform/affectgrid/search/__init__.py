"""Search spaces, Optuna and study summaries."""
