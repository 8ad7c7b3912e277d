"""What is concluded from finished trials: `bootstrap`, `arms`, `importance`, `slices`, `confirmation`, `summary`;
and from a model's predictions: `evaluation`; `capacity`: what a corpus and a search would need.

Public are the functions and classes of these modules; nothing is imported here, because some load Optuna or torch.
"""
