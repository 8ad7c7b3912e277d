"""Capacity on paper and in simulation: `machines`, `workload`, `times`, `conditions`, `queueing`, `encoding`, `search`,
`planning`, and `simulation`, which shares no formula with them.

Public are the functions and classes of these modules. Nothing here needs Ray or torch.
"""
