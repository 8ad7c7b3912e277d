"""Ray at the rim: `cluster` connects, and `encode/`, `train/` and `tune/` are opened by their `run` modules."""

import os

# Ray reads most of these when it is imported, which is after this package; a user's own value wins.
_DEFAULT_ENVIRONMENT = {
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # its default of 2 s is most of a short run
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # results live in MLflow and the study's folder, not in TensorBoard's
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}
for _name, _value in _DEFAULT_ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
