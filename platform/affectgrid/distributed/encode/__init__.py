"""Encoding on Ray Data: `run.encode` encodes what a store lacks, `run.plan_encode` says what that would take.

`plan` decides, `executor` does; nothing is imported here, so that the plan and the options load no Ray.
"""
