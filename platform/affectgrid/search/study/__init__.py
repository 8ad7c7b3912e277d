"""What a study has tried: `ledger.open_ledger`, its `records`, `sampling` and `warm_start`.

Nothing is imported here: a worker needs `assignment` and `records`, and must not load Optuna's samplers.
"""
