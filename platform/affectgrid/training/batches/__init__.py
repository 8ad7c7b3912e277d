"""Windows of a resident split as batches, by index arithmetic."""

from affectgrid.training.batches.order import jittered, seed_of, shuffled_batches, take
from affectgrid.training.batches.resampling import Sampling
from affectgrid.training.batches.resident import Batch, Resident, Statistics

__all__ = ["Batch", "Resident", "Sampling", "Statistics", "jittered", "seed_of", "shuffled_batches", "take"]
