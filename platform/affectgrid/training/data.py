"""What training reads: resident splits and encoded prompts, loaded once and shared by every trial."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch import Tensor

from affectgrid.data.catalog import Track
from affectgrid.data.splits.folds import Folds
from affectgrid.data.splits.resident import Split
from affectgrid.errors import ConfigError, Problem, nearest
from affectgrid.model.context import ContextWords
from affectgrid.regions import RegionGrid
from affectgrid.training.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class EncodedPrompts:
    """A prompt file after the text encoder.

    Args:
        name: the name of the prompt file.
        grid: the regions.
        texts_features: for each region, in the grid's order, its texts' features [text, dim].
        words: the first text of each region before the text encoder, and the encoder: for the mode `context` alone.
    """

    name: str
    grid: RegionGrid
    texts_features: tuple[Tensor, ...]
    words: ContextWords | None = None

    def __post_init__(self) -> None:
        if len(self.texts_features) != self.grid.num_regions:
            raise ValueError(f"{self.name}: {len(self.texts_features)} texts for {self.grid.num_regions} regions")


@dataclasses.dataclass(frozen=True)
class PreparedData:
    """Resident splits and encoded prompts.

    Args:
        train: what is learnt from.
        validation: what every score of a search is measured on.
        prompts: by the name that ``prompt.file`` uses.
        fingerprint: changes with the data, the encoders and the media settings.
        splits: which track is in which split and fold, as the CSV file that ``--splits`` takes.
        features: by stream, the fingerprint of its features in the store; empty where nothing was stored.
        media: tracks of the validation split with their files, by id; empty where there are none.
    """

    train: Split
    validation: Split
    prompts: dict[str, EncodedPrompts]
    fingerprint: str
    splits: str = dataclasses.field(default="", kw_only=True)
    features: Mapping[str, str] = dataclasses.field(default_factory=dict, kw_only=True)
    media: Mapping[str, Track] = dataclasses.field(default_factory=dict, kw_only=True)

    @property
    def parts(self) -> tuple[PreparedData, ...]:
        """What one model each learns from and is scored on."""
        return (self,)

    def prompts_for(self, config: TrainConfig) -> EncodedPrompts:
        """The prompts that a configuration names. Raises ConfigError (CFG-PROMPT) where they were not encoded."""
        name = config.prompt.file
        if name not in self.prompts:
            found, hint = f"{name!r}, which is not encoded", nearest(name, self.prompts)
            raise ConfigError(
                Problem("CFG-PROMPT", where="prompt.file", found=found, expected="an encoded prompt file", hint=hint)
            )
        return self.prompts[name]


@dataclasses.dataclass(frozen=True)
class FoldedData(PreparedData):
    """Resident tracks of all folds, and encoded prompts; as `PreparedData` it is its first fold.

    Args:
        whole: every track, in the order of ``folds.order``.
        folds: which track is in which.
    """

    whole: Split
    folds: Folds

    @classmethod
    def of(
        cls,
        whole: Split,
        folds: Folds,
        prompts: dict[str, EncodedPrompts],
        fingerprint: str,
        *,
        splits: str = "",
        features: Mapping[str, str] | None = None,
        media: Mapping[str, Track] | None = None,
    ) -> FoldedData:
        """No feature is copied. The fingerprint must change with the folds too."""
        train, validation = folds.parts(whole, 0)
        found = cls(train, validation, prompts, fingerprint, whole, folds, splits=splits, features=features or {})
        return dataclasses.replace(found, media=media or {})

    @property
    def parts(self) -> tuple[PreparedData, ...]:
        """What each fold's model learns from, and the tracks that it is scored on."""
        both = (self.folds.parts(self.whole, number) for number in range(self.folds.num_folds))
        facts = self.prompts, self.fingerprint
        return tuple(PreparedData(*splits, *facts, splits=self.splits, features=self.features) for splits in both)
