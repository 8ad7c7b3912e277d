"""Ray at the rim: the cluster, encode, train and tune."""
