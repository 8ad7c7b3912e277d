"""Options of jobs about data, and the data set that they name.

Light to import: a job checks its options before it loads torch and Ray.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator
from tyro.conf import arg

from affectgrid.data.annotations import OnBadLabel
from affectgrid.data.catalog.formats.choice import AUTO, format_names
from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.data.splits.feed import FeedOptions
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.settings import Settings
from affectgrid.training.config import TrainConfig

if TYPE_CHECKING:
    from affectgrid.data.catalog import Catalog, Labels
    from affectgrid.data.workspace import Workspace
    from affectgrid.storage import Storage

log = logging.getLogger(__name__)

RENDERED = "rendered"
Crop = Literal["crops", "detect", "frame"]


class StoreOption(Settings):
    """Where features are stored."""

    store: str | None = Field(
        None, description="feature store: a folder or a URI such as s3://bucket/features; default: OUT/features"
    )


class ModelOption(Settings):
    """Which models."""

    model: tuple[str, ...] = Field(
        min_length=1,
        description="model packages (what train or tune wrote, here or in a bucket), one ensemble.json, or models of "
        "MLflow (models:/NAME@champion)",
    )


class WorkersOption(Settings):
    """How many processes train one run."""

    workers: int = Field(1, gt=0, description="training processes; the batch is shared among them")
    min_workers: int | None = Field(
        None, gt=0, description="elastic: continue with as few as this when nodes go, and grow back to --workers"
    )
    max_failures: int = Field(3, ge=-1, description="how often workers may die before the run gives up; -1: never")

    @model_validator(mode="after")
    def _fewest_first(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"min_workers {self.min_workers} is above workers {self.workers}; swap them")
        return self

    @property
    def num_workers(self) -> int | tuple[int, int]:
        """A number, or (fewest, most) of an elastic run."""
        return (self.min_workers, self.workers) if self.min_workers else self.workers


class FoldsOption(Settings):
    """Which tracks are held out."""

    folds: int = Field(
        0, ge=0, description="cross-validation over the tracks of training and validation, so many folds; 0: none"
    )
    fold_seed: int = Field(0, ge=0, description="another seed makes other folds")

    @model_validator(mode="after")
    def _leave_some(self) -> Self:
        if self.folds == 1:
            raise ValueError("folds 1 leaves nothing to learn from; ask for 2 or more")
        return self


class EverythingOption(FoldsOption):
    """Which tracks are held out, if any."""

    everything: bool = Field(
        False, description="train on the validation split too, and keep the last epoch: no score then is held out"
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.folds and self.everything:
            raise ValueError("folds hold tracks out and everything holds none out; give one of them")
        return self

    def for_folds(self, config: TrainConfig) -> TrainConfig:
        """With everything there is nothing to choose an epoch by."""
        return config.keep_last() if self.everything else config


class RegisterOption(FoldsOption):
    """What becomes of the model in MLflow's registry."""

    register_as: Annotated[str | None, arg(name="register")] = Field(
        None,
        pattern=r"^[^/:]+$",
        description="make the model the champion of this registered model in MLflow",
    )

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if self.folds and self.register_as:
            raise ValueError("every fold has a model of its own, and none is the one to register; leave one out")
        return self


class LogModelsOption(RegisterOption):
    """Which models MLflow gets."""

    log_models: Literal["best", "all"] = Field("best", description="log the best trial's model, or every trial's")

    @property
    def asks_more(self) -> bool:
        """Than the best model's log."""
        return self.register_as is not None or self.log_models == "all"


class TracksOption(Settings):
    """Which tracks."""

    tracks: tuple[Path, ...] = Field(
        (), description="files with names of tracks, one a line: only these are used; validate writes such lists"
    )


class CatalogOptions(TracksOption):
    """Which data."""

    data: str = Field(RENDERED, description="a data set's folder or URI, or 'rendered', the corpus drawn here")
    format: str = Field(
        AUTO, description=f"of the data set: {', '.join(format_names())}, or auto: recognised by its files"
    )
    label_range: tuple[float, float] | None = Field(
        None, description="ends of the scale of a table's labels, e.g. 1 9; default: -1 1"
    )
    splits: Path | None = Field(
        None, description="file of tracks and splits, in place of the data set's own; validate --write-splits makes one"
    )
    on_bad_label: OnBadLabel = Field(
        "refuse", description="a line of labels that cannot be read: refuse its file, or mask its frame and say so"
    )


class DataOptions(StoreOption, CatalogOptions):
    """Which data, and how they are encoded."""

    encode: EncodeConfig = EncodeConfig()
    text_model: Path | None = Field(
        None, description="directory of a sentence-transformers model that encodes the prompts; default: CLIP's own"
    )
    feed: FeedOptions = FeedOptions()

    @classmethod
    def for_package(cls, data: CatalogOptions, encoders: dict[str, str]) -> DataOptions:
        """Encode `data` as the training data of a model package were encoded; `encoders` comes from the package."""
        visual = VisualStream.model_validate_json(encoders["visual_stream"])
        audio = AudioStream.model_validate_json(encoders["audio_stream"])
        which = {name: getattr(data, name) for name in CatalogOptions.model_fields}
        return cls(**which, encode=EncodeConfig(visual=visual, audio=audio))


def encoding_for(encoders: dict[str, str], catalog: Catalog, crop: Crop | None = None) -> EncodeConfig:
    """How a model package's `encoders` encode these tracks: faces from crop files where there are any, else detected.

    `crop` says otherwise. A model of whole frames gets whole frames unless it does.
    """
    config = DataOptions.for_package(CatalogOptions(data=str(catalog.root)), encoders).encode
    if config.visual.crop != "frame":
        crop = crop or ("crops" if any(track.crops for track in catalog.tracks) else "detect")
    return config.model_copy(update={"visual": config.visual.model_copy(update={"crop": crop or config.visual.crop})})


def open_catalog(options: CatalogOptions, workspace: Workspace, *, labels: Labels = "required") -> Catalog:
    """The tracks of ``options.data``, ``rendered`` or a place, in any format, that ``options.tracks`` names.

    They are in the splits that ``options.splits`` says. `labels` as ``read_aff_wild2`` takes it. Raises as
    ``read_catalog``, ``with_splits`` and ``Catalog.only`` do.
    """
    # here, not above: reading settings needs no reader, and only the rendered corpus needs Ray
    from affectgrid.data.catalog import read_catalog
    from affectgrid.data.splits.assignment import with_splits

    data: Path | str | Storage = options.data
    if options.data == RENDERED:
        from affectgrid.distributed.render import render

        data = render(workspace.corpus(RENDERED))
    catalog = read_catalog(data, options.format, labels=labels, label_range=options.label_range)
    return with_splits(catalog, options.splits).only(options.tracks).on_bad_label(options.on_bad_label)


def tell_unlabelled(catalog: Catalog) -> None:
    """Log how many tracks become the test split for want of labels, where others have some."""
    unlabelled = catalog.unlabelled
    if unlabelled:
        log.warning(
            "%d of %d tracks have no labels: they are the test split, and encoded too; --tracks names what is wanted",
            len(unlabelled),
            len(catalog.tracks),
        )
