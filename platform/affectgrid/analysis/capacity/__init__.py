"""Capacity on paper: `options`, `machines`, `conditions`, `workload`, `times`, `queueing`, `stage`, `encoding`,
`search` and `planning`; and in `simulation`, which uses no formula of theirs.

Public are the functions and classes of these modules. Nothing here needs Ray or torch.
"""
