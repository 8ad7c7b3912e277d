"""The difference of two configurations, with an interval over the choice of videos and the seeds of training."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from scipy.stats import t as student_t
from torch import Tensor

from affectgrid.metrics import ccc_from_moments
from affectgrid.settings import Settings

MIN_SEEDS = 5  # with fewer, the far tails of the seed variance are too uncertain for a verdict
_NUM_RESAMPLES = 4_000  # only variances are taken from them: 4,000 give a standard deviation to about 1 %


class Difference(Settings):
    """P of one configuration minus P of another, each the mean over its seeds, with its interval.

    Args:
        estimate: on the videos as they are.
        low, high: the interval at `confidence`, as if no other pair had been compared.
        low_corrected, high_corrected: at `corrected_confidence`, which allows for `num_comparisons`.
        video_sd: standard error from the choice of videos.
        seed_sd: standard error from the seeds; 0 where neither configuration has two.
        degrees_of_freedom: of the t distribution that the intervals are of.
        num_videos: raw videos, the unit of resampling.
        num_seeds: of the configuration that has fewer.
    """

    estimate: float
    low: float
    high: float
    low_corrected: float
    high_corrected: float
    confidence: float
    corrected_confidence: float
    num_comparisons: int
    video_sd: float
    seed_sd: float
    degrees_of_freedom: float
    num_videos: int
    num_seeds: int

    @property
    def holds(self) -> bool:
        """Whether the corrected interval leaves out zero, with enough seeds to say so."""
        return self.num_seeds >= MIN_SEEDS and (self.low_corrected > 0 or self.high_corrected < 0)


def sidak(confidence: float, num_comparisons: int) -> float:
    """The confidence of each of `num_comparisons` intervals that leaves `confidence` for all of them together.

    Šidák's 1 - alpha' = (1 - alpha)^(1 / m): exact for independent comparisons, conservative for positively dependent
    ones such as many configurations compared with one default on the same videos. Bonferroni's alpha / m is a little
    wider.
    """
    if num_comparisons < 1:
        raise ValueError(f"at least one comparison is made, got {num_comparisons}")
    return float(confidence ** (1 / num_comparisons))


def compare(
    one: Float[Tensor, "seed video stat 2"],
    other: Float[Tensor, "seed video stat 2"],
    *,
    num_comparisons: int = 1,
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Compare two configurations, given the moments of every raw video under each of their seeds.

    The statistic is the pooled P of each seed, averaged over the seeds, of `one` minus `other`. Its variance has two
    parts. That of the videos comes from a bootstrap that draws the same videos for both. That of the seeds is, as in
    Welch's test, each configuration's variance over its seeds divided by their number. A seed's noise that differs from
    video to video is in both parts; what the bootstrap shows of it (in each seed's distance from the mean) is taken out
    of the second. The degrees of freedom follow Welch and Satterthwaite. A configuration with one seed is taken to vary
    as the other one does; where neither has two, the interval knows nothing of training luck and `seed_sd` is 0.

    What the intervals promise is simulated by `tests/unit/analysis/test_coverage.py`. Raises ValueError for other
    videos, or none.
    """
    if one.shape[1:] != other.shape[1:] or not one.numel() or not other.numel():
        raise ValueError(f"moments of the same videos are compared, got {one.shape} and {other.shape}")
    num_videos = one.shape[1]
    draws = _draws(num_videos, torch.Generator().manual_seed(seed))
    resampled, observed = ([_p_by_seed(moments, weights) for moments in (one, other)] for weights in (draws, None))
    ours, theirs = resampled
    inflation = num_videos / max(1, num_videos - 1)  # a bootstrap's variance is (n - 1) / n of the sample's
    video_variance = inflation * _variance(ours.mean(1) - theirs.mean(1))
    seed_terms = _seed_terms(observed, [inflation * _interaction(each) for each in resampled])
    seed_variance = max(0.0, sum(net for net, _ in seed_terms))
    variance = video_variance + seed_variance
    freedom = _degrees_of_freedom(video_variance, num_videos, seed_terms)
    estimate = float(observed[0].mean() - observed[1].mean())
    corrected = sidak(confidence, num_comparisons)
    plain, wide = (_half_width(variance, level, freedom) for level in (confidence, corrected))
    return Difference(
        estimate=estimate,
        low=estimate - plain,
        high=estimate + plain,
        low_corrected=estimate - wide,
        high_corrected=estimate + wide,
        confidence=confidence,
        corrected_confidence=corrected,
        num_comparisons=num_comparisons,
        video_sd=math.sqrt(video_variance),
        seed_sd=math.sqrt(seed_variance),
        degrees_of_freedom=freedom,
        num_videos=num_videos,
        num_seeds=min(len(one), len(other)),
    )


def _draws(size: int, generator: torch.Generator) -> Float[Tensor, "resample video"]:
    """How often each video is drawn, in draws of `size` with replacement."""
    picks = torch.randint(size, (_NUM_RESAMPLES, size), generator=generator)
    counts = torch.zeros(_NUM_RESAMPLES, size, dtype=torch.float64)
    return counts.scatter_add_(1, picks, torch.ones_like(counts))


def _p_by_seed(
    moments: Float[Tensor, "seed video stat 2"], weights: Float[Tensor, "resample video"] | None
) -> Float[Tensor, "resample seed"]:
    """A seed at a time: all at once would be seeds x resamples x moments in memory. None: each video once."""
    weights = torch.ones(1, moments.shape[1], dtype=torch.float64) if weights is None else weights
    columns = [ccc_from_moments(torch.einsum("rv,vsd->rsd", weights, one)).mean(-1) for one in moments]
    return torch.stack(columns, 1)


def _interaction(resampled: Float[Tensor, "resample seed"]) -> float:
    """The variance over videos of one seed's own noise, from its distance to the mean of the seeds; 0 for one seed."""
    num_seeds = resampled.shape[1]
    if num_seeds < 2:
        return 0.0
    distances = resampled - resampled.mean(1, keepdim=True)
    return sum(_variance(column) for column in distances.T) / (num_seeds - 1)


def _seed_terms(observed: list[Float[Tensor, "1 seed"]], interactions: list[float]) -> list[tuple[float, int]]:
    """Of each configuration: the seeds' variance of its mean without the interaction, and its degrees of freedom.

    Noise may make a variance negative; only the sum is cut at 0, which leaves it nearly unbiased.
    """
    several = [number for number, each in enumerate(observed) if each.shape[1] > 1]
    terms = []
    for number, each in enumerate(observed) if several else ():
        source = number if number in several else several[0]
        scores = observed[source][0]
        terms.append(((float(scores.var()) - interactions[source]) / each.shape[1], len(scores) - 1))
    return terms


def _degrees_of_freedom(video_variance: float, num_videos: int, terms: list[tuple[float, int]]) -> float:
    """Welch's and Satterthwaite's."""
    parts = [(video_variance, max(1, num_videos - 1)), *((max(0.0, net), freedom) for net, freedom in terms)]
    spread = sum(part**2 / freedom for part, freedom in parts)
    return sum(part for part, _ in parts) ** 2 / spread if spread else float(parts[0][1])


def _half_width(variance: float, confidence: float, degrees_of_freedom: float) -> float:
    return float(student_t.ppf((1 + confidence) / 2, degrees_of_freedom)) * math.sqrt(variance)


def _variance(values: Float[Tensor, " resample"]) -> float:
    """Over the resamples that have a CCC: one of nothing but videos without a labelled frame has none."""
    finite = values[values.isfinite()]
    return float(finite.var(correction=0)) if len(finite) else math.nan
