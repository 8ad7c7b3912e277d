"""Regions of the valence-arousal plane, and the soft labels that tie a point to all of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from affectgrid.errors import ConfigError, Problem

Centre = tuple[float, float]
Sigma = float | tuple[float, float] | Float[Tensor, " axis"]  # one width, or one along valence and one along arousal

VALENCE_WORDS = {1: ("any",), 2: ("negative", "positive"), 3: ("negative", "neutral", "positive")}
AROUSAL_WORDS = {1: ("any",), 2: ("low", "high"), 3: ("low", "medium", "high")}


@dataclasses.dataclass(frozen=True)
class RegionGrid:
    """Named centres on the plane; a region is the set of points nearest to its centre.

    Order: row by row from high arousal to low, within a row from negative to positive valence. A polar grid lists its
    centre first, then its sectors counter-clockwise from positive valence. Hashable, so that it can key a cache.

    Args:
        centres: (valence, arousal) of every region, each in [-1, 1], all different, at least two.
        names: one unique name for every region.

    Raises ConfigError (CFG-GRID) for anything else.
    """

    centres: tuple[Centre, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        found = _fault(self.centres, self.names)
        if found:
            expected = "two or more different centres in [-1, 1], each with a unique name"
            raise ConfigError(
                Problem(
                    "CFG-GRID", where="grid", found=found, expected=expected, hint="correct the grid's centres or names"
                )
            )

    @classmethod
    def square(cls, n: int = 3, *, extent: float | None = None) -> RegionGrid:
        """n x n regions. `extent` is the outermost centre's coordinate; None: 1 - 1/n, the centres of equal cells."""
        return cls.rectangle(n, n, extent=extent)

    @classmethod
    def rectangle(cls, num_valence: int, num_arousal: int, *, extent: float | None = None) -> RegionGrid:
        """`num_valence` columns by `num_arousal` rows; `extent` as in `square`, the same on both axes."""
        columns = list(zip(_axis(num_valence, extent), _words(num_valence, VALENCE_WORDS, "v"), strict=True))
        rows = list(zip(_axis(num_arousal, extent), _words(num_arousal, AROUSAL_WORDS, "a"), strict=True))
        cells = [((v, a), f"{row}-{column}") for a, row in reversed(rows) for v, column in columns]
        return cls(tuple(centre for centre, _ in cells), tuple(name for _, name in cells))

    @classmethod
    def polar(cls, sectors: int, *, radius: float = 2 / 3) -> RegionGrid:
        """A neutral centre and `sectors` centres on a circle of `radius` in (0, 1]."""
        angles = [360 * k / sectors for k in range(sectors)]
        ring = [(radius * math.cos(math.radians(d)), radius * math.sin(math.radians(d))) for d in angles]
        return cls(((0.0, 0.0), *ring), ("centre", *(f"{degrees:05.1f}deg" for degrees in angles)))

    @classmethod
    def explicit(cls, centres: Sequence[Sequence[float]], names: Sequence[str]) -> RegionGrid:
        """Centres and names as a file lists them, in that order."""
        if any(len(centre) != 2 for centre in centres):
            raise ConfigError(
                Problem(
                    "CFG-GRID",
                    where="grid",
                    found="a centre without exactly two numbers",
                    expected="[valence, arousal]",
                    hint="correct it",
                )
            )
        return cls(tuple((float(v), float(a)) for v, a in centres), tuple(names))

    @property
    def num_regions(self) -> int:
        return len(self.centres)

    @property
    def spacing(self) -> tuple[float, float]:
        """Between centres along valence and along arousal: the unit of sigma_ratio.

        Of rows and columns: the mean distance between neighbours on each axis; an axis with one value takes the other's
        spacing. Of any other arrangement, on both: the mean distance from a centre to its nearest neighbour.
        """
        values = [sorted({centre[axis] for centre in self.centres}) for axis in (0, 1)]
        if len(values[0]) * len(values[1]) == self.num_regions:
            steps = [(axis[-1] - axis[0]) / (len(axis) - 1) if len(axis) > 1 else 0.0 for axis in values]
            return steps[0] or steps[1], steps[1] or steps[0]
        gaps = [
            min(math.dist(centre, other) for j, other in enumerate(self.centres) if j != k)
            for k, centre in enumerate(self.centres)
        ]
        mean = math.fsum(gaps) / len(gaps)
        return mean, mean

    def centres_tensor(
        self, *, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
    ) -> Float[Tensor, "region 2"]:
        return torch.tensor(self.centres, dtype=dtype, device=device)

    def nearest(self, va: Float[Tensor, "*batch 2"]) -> Int[Tensor, "*batch"]:
        """Index of the nearest centre; of several equally near, the first in region order."""
        return _squared_distance(va, _centres_like(self, va)).argmin(-1)


def log_soft_labels(
    va: Float[Tensor, "*batch 2"], grid: RegionGrid | Float[Tensor, "region 2"], *, sigma: Sigma
) -> Float[Tensor, "*batch region"]:
    """Logarithm of `soft_labels`; -inf where a region's share is below the smallest float."""
    centres = _centres_like(grid, va)
    unit, relative = _widths(sigma, va)
    if relative is not None:
        va, centres = va * relative, centres * relative
    distance = _squared_distance(va, centres)
    excess = distance - distance.amin(-1, keepdim=True)  # 0 at the nearest centre, so a tiny sigma cannot lose it
    return torch.log_softmax(-(excess / unit) / (2 * unit), dim=-1)  # dividing twice: sigma ** 2 may underflow


def soft_labels(
    va: Float[Tensor, "*batch 2"], grid: RegionGrid | Float[Tensor, "region 2"], *, sigma: Sigma
) -> Float[Tensor, "*batch region"]:
    """Spread each valence-arousal point over the regions with a Gaussian kernel.

    Rows sum to 1. A small `sigma` approaches the one-hot of the nearest centre (ties share); a large one, uniform, and
    `inf` is uniform. Two of them are the kernel's widths along valence and along arousal: q_k is then proportional to
    exp(-dv_k^2 / (2 sigma_v^2) - da_k^2 / (2 sigma_a^2)), and an axis whose width is `inf` does not count. NaN in `va`
    gives a row of NaN. Raises ValueError unless sigma > 0 (a tensor is not checked: that would wait for the device).
    Source: SORD (Diaz and Marathe, CVPR 2019) with phi = d^2 / (2 sigma^2), here in two dimensions.
    """
    return log_soft_labels(va, grid, sigma=sigma).exp()


def one_hot_labels(
    va: Float[Tensor, "*batch 2"], grid: RegionGrid | Float[Tensor, "region 2"], *, smoothing: float = 0.0
) -> Float[Tensor, "*batch region"]:
    """The one-hot of the nearest region, with a share `smoothing` in [0, 1] of it spread evenly over all regions.

    Label smoothing (Szegedy et al., CVPR 2016): as soft as a Gaussian label, and blind to distance. Of several equally
    near regions the first in region order is the hard one. Raises ValueError for a share outside [0, 1].
    """
    if not 0 <= smoothing <= 1:
        raise ValueError(f"smoothing must lie in [0, 1], got {smoothing}")
    centres = _centres_like(grid, va)
    hard = torch.nn.functional.one_hot(_squared_distance(va, centres).argmin(-1), len(centres)).to(va.dtype)
    return (1 - smoothing) * hard + smoothing / len(centres)


def nearest_region(va: Float[Tensor, "*batch 2"], grid: RegionGrid) -> Int[Tensor, "*batch"]:
    """Index of the region that each point lies in; a tie goes to the first in region order."""
    return grid.nearest(va)


def expected_centre(
    probabilities: Float[Tensor, "*batch region"], grid: RegionGrid | Float[Tensor, "region 2"]
) -> Float[Tensor, "*batch 2"]:
    """Mean of the centres under a distribution over regions: the point that the prompt head alone would predict."""
    return probabilities @ _centres_like(grid, probabilities)


def _centres_like(grid: RegionGrid | Float[Tensor, "region 2"], other: Tensor) -> Float[Tensor, "region 2"]:
    """The centres in the precision and on the device of `other`."""
    if isinstance(grid, RegionGrid):
        return grid.centres_tensor(dtype=other.dtype, device=other.device)
    return grid.to(other)


def _widths(sigma: Sigma, va: Tensor) -> tuple[float | Tensor, Float[Tensor, " axis"] | None]:
    """The narrower width, and the factors that shrink each axis so that it is the width of both; None: no factor."""
    if isinstance(sigma, Tensor):
        unit = sigma.detach().min()  # no label depends on the unit, so its gradient is 0 and need not be tracked
        return unit.to(va), (unit / sigma).to(va)
    pair = (sigma, sigma) if isinstance(sigma, int | float) else sigma
    if not all(width > 0 for width in pair):
        raise ValueError(f"sigma must be > 0, got {sigma}")
    valence, arousal = (max(width, torch.finfo(va.dtype).tiny) for width in pair)
    if valence == arousal:
        return valence, None
    narrow = min(valence, arousal)
    return narrow, torch.tensor([narrow / valence, narrow / arousal], dtype=va.dtype, device=va.device)


def _squared_distance(
    va: Float[Tensor, "*batch 2"], centres: Float[Tensor, "region 2"]
) -> Float[Tensor, "*batch region"]:
    valence = va[..., 0, None] - centres[:, 0]  # axis by axis: half the memory of a [*batch, region, 2] difference
    arousal = va[..., 1, None] - centres[:, 1]
    return valence.square() + arousal.square()


def _axis(n: int, extent: float | None) -> list[float]:
    """n centres from -extent to extent, rising; one centre sits at 0."""
    if n < 1:
        raise ConfigError(
            Problem("CFG-GRID", where="grid", found=f"{n} regions on an axis", expected="at least 1", hint="raise it")
        )
    outermost = 1 - 1 / n if extent is None else extent
    return [0.0] if n == 1 else [outermost * (2 * k - (n - 1)) / (n - 1) for k in range(n)]


def _words(n: int, words: dict[int, tuple[str, ...]], letter: str) -> tuple[str, ...]:
    return words.get(n, tuple(f"{letter}{k + 1}" for k in range(n)))


def _fault(centres: tuple[Centre, ...], names: tuple[str, ...]) -> str | None:
    if len(centres) < 2:
        return f"{len(centres)} region(s)"
    if len(names) != len(centres):
        return f"{len(names)} names for {len(centres)} centres"
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        return f"the name {doubled[0]!r} more than once"
    for name, centre in zip(names, centres, strict=True):
        if not all(abs(coordinate) <= 1 for coordinate in centre):  # NaN fails the comparison too
            return f"centre {centre} of {name!r}"
        if centres.count(centre) > 1:
            return f"centre {centre} more than once"
    return None
