"""A data set on disk: `annotations`, `catalog` and its `validation`, `features` (the store), `splits` for training.

Public are the modules' functions and classes; nothing is imported here.
"""
