"""A data set on disk: annotations, catalogs and their validation, the feature store, and splits for training."""
