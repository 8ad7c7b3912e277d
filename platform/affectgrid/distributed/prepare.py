"""From the name of a data set to loaded splits: render, encode and load, each only where it is not done yet."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import torch

from affectgrid.data.catalog import Catalog, Track
from affectgrid.data.features.imported import ENCODED, ImportedStream, find_imported
from affectgrid.data.features.references import write_data_record
from affectgrid.data.features.report import EncodeReport
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.splits.assignment import group_tracks, require_folds, splits_text
from affectgrid.data.splits.feed import feed
from affectgrid.data.splits.folds import Folds, make_folds
from affectgrid.data.splits.resident import Split, SplitPlan, plan_split
from affectgrid.data.workspace import Workspace
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.run import encode
from affectgrid.distributed.options import DataOptions, open_catalog
from affectgrid.encoders.sentences import SentenceEncoder
from affectgrid.encoders.visual import load_visual
from affectgrid.errors import CatalogError, Problem
from affectgrid.model.config import PromptMode
from affectgrid.regions import RegionGrid
from affectgrid.training.data import EncodedPrompts, FoldedData, PreparedData
from affectgrid.training.text_features import encode_prompts

log = logging.getLogger(__name__)

LABELLED = ("train", "validation")
SPLITS = (*LABELLED, "test")


@dataclasses.dataclass(frozen=True)
class Encoded:
    """An encoded data set."""

    catalog: Catalog
    store: FeatureStore
    report: EncodeReport
    config: EncodeConfig
    imported: tuple[ImportedStream, ...] = ()

    def split(self, name: str) -> Split:
        """Resident arrays of a split, as ``plan`` has it."""
        return dataclasses.replace(self.plan(name).fill(), encoders=self.encoders)

    def plan(self, name: str) -> SplitPlan:
        """A split without the tracks in quarantine; no feature is read. Raises CatalogError (CAT-SPLIT) if empty."""
        return self.plan_of(self.tracks(name), name)

    def tracks(self, *splits: str) -> list[Track]:
        """Those of one or several splits that are not in quarantine."""
        lost = {failure.track for failure in self.report.quarantined}
        return [track for split in splits for track in self.catalog.split(split) if track.id not in lost]

    def plan_of(self, tracks: Sequence[Track], name: str) -> SplitPlan:
        """Those tracks as a split of that name. Raises CatalogError (CAT-SPLIT) without any."""
        if not tracks:
            raise CatalogError(
                Problem(
                    "CAT-SPLIT",
                    where=str(self.catalog.root),
                    found=f"no track in split {name!r}",
                    expected="labelled tracks in it, and their videos",
                    hint="look at the folders with jobs/validate.py; where a data set has no splits of its own, "
                    "--write-splits draws them and --splits takes them",
                )
            )
        return plan_split(self.store, tracks, fingerprints=self.fingerprints, name=name)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of every stream, encoded or imported."""
        imported = {stream.name: stream.fingerprint for stream in self.imported}
        return {stream: self.report.fingerprints[stream] for stream in ENCODED} | imported

    @property
    def encoders(self) -> dict[str, str]:
        """The encoders' names, and the settings that a new video must be encoded with."""
        config = self.config
        return {
            "visual": config.visual.model,
            "audio": config.audio.model,
            "visual_stream": config.visual.model_dump_json(),
            "audio_stream": config.audio.model_dump_json(),
            **{name: text for stream in self.imported for name, text in stream.as_encoders().items()},
        }

    @property
    def fingerprint(self) -> str:
        """Digest that changes with the labels, the videos and everything that changes a feature."""
        facts: list[object] = [self.catalog.digest(), sorted(self.fingerprints.items())]
        tracks = [track.id for track in self.catalog.tracks]
        facts += [stream.contents(self.store, tracks) for stream in self.imported]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def encode_data(
    options: DataOptions, workspace: Workspace, streams: Iterable[str] = (), *, splits: Collection[str] = SPLITS
) -> Encoded:
    """Encode what the `splits` lack, and find the imported ones among `streams`. Needs a Ray connection.

    Raises ConfigError (CFG-STREAM) before any work where the store lacks one.
    """
    store = FeatureStore(options.store or workspace.features)
    imported = find_imported(store, streams)
    catalog = open_catalog(options, workspace)
    wanted = tuple(track for track in catalog.tracks if track.split in splits)
    report = encode(dataclasses.replace(catalog, tracks=wanted), store.root, options.encode)
    encoded = Encoded(catalog, store, report, options.encode, imported)
    write_data_record(workspace.root, encoded.fingerprint, encoded.fingerprints)
    return encoded


def prepare(
    options: DataOptions,
    workspace: Workspace,
    prompt_files: Iterable[str],
    prompt_modes: Iterable[PromptMode] = ("ensemble",),
    streams: Iterable[str] = (),
    *,
    everything: bool = False,
) -> PreparedData:
    """What training or a search reads; never the test split, which is not encoded either.

    `streams` names the streams of all configurations; visual and audio are always there. With `everything` the
    validation split is part of the training data: for the last model, whose scores there say nothing.

    With `context` among the modes the frozen text tower is part of it: 150 MB for ViT-B-32, once for all prompt files.
    """
    encoded, prompts = _encode_both(options, workspace, prompt_files, prompt_modes, streams)
    learnt = encoded.tracks(*LABELLED) if everything else encoded.tracks("train")
    plans = [encoded.plan_of(learnt, "train"), encoded.plan("validation")]
    train, validation = (
        dataclasses.replace(split, encoders=encoded.encoders) for split in feed(plans, options.feed, workspace.mapped)
    )
    fingerprint, splits = _fingerprint(encoded, prompts, options), splits_text(encoded.catalog.tracks)
    media = {track.id: track for track in encoded.tracks("validation")}
    return PreparedData(
        train, validation, prompts, fingerprint, splits=splits, features=encoded.fingerprints, media=media
    )


def prepare_folds(
    options: DataOptions,
    workspace: Workspace,
    prompt_files: Iterable[str],
    prompt_modes: Iterable[PromptMode] = ("ensemble",),
    streams: Iterable[str] = (),
    *,
    num_folds: int,
    seed: int,
) -> FoldedData:
    """The tracks of the training and of the validation split, shared out to folds by raw video; as `prepare` else.

    A file of splits may say the folds, too. The regions that the folds have alike are those of the 3x3 grid. Raises
    ConfigError (CFG-FOLDS) for too few videos, and for another number of folds than the file has.
    """
    encoded, prompts = _encode_both(options, workspace, prompt_files, prompt_modes, streams)
    tracks, grid = encoded.tracks(*LABELLED), RegionGrid.rectangle(3, 3)
    labels = encoded.plan_of(tracks, "folds").labels
    regions = [
        np.zeros(0, np.int64) if own is None else grid.nearest(torch.as_tensor(own.va[own.valid])).numpy()
        for own in labels
    ]
    numbers = require_folds(tracks, num_folds) or make_folds(group_tracks(tracks), regions, num_folds, seed)
    names = [track.id for track in tracks]
    folds = Folds(dict(zip(names, numbers, strict=True)), num_folds)
    plan = encoded.plan_of([tracks[place] for place in folds.order(names)], "folds")
    (whole,) = feed([plan], options.feed, workspace.mapped)
    facts = json.dumps([_fingerprint(encoded, prompts, options), num_folds, sorted(folds.fold_of.items())])
    fingerprint = hashlib.sha256(facts.encode()).hexdigest()[:16]
    whole = dataclasses.replace(whole, encoders=encoded.encoders)
    splits = splits_text(encoded.catalog.tracks, folds.fold_of)
    media = {track.id: track for track in tracks}
    return FoldedData.of(whole, folds, prompts, fingerprint, splits=splits, features=encoded.fingerprints, media=media)


def _fingerprint(encoded: Encoded, prompts: Mapping[str, EncodedPrompts], options: DataOptions) -> str:
    """That of the data, which with a text model of its own changes with what that makes of the prompts."""
    if options.text_model is None:
        return encoded.fingerprint
    digest = hashlib.sha256(encoded.fingerprint.encode())
    for _, own in sorted(prompts.items()):
        for features in own.texts_features:
            digest.update(features.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _encode_both(
    options: DataOptions,
    workspace: Workspace,
    prompt_files: Iterable[str],
    prompt_modes: Iterable[PromptMode],
    streams: Iterable[str],
) -> tuple[Encoded, dict[str, EncodedPrompts]]:
    # streams and prompts first: a mistake in them shows before the data are encoded, which may take hours
    streams = tuple(streams)
    find_imported(FeatureStore(options.store or workspace.features), streams)
    own = options.text_model
    texts = load_visual(options.encode.visual.model) if own is None else SentenceEncoder(own)
    prompts = encode_prompts(prompt_files, texts, workspace.node_folder("features"), modes=prompt_modes)
    del texts
    return encode_data(options, workspace, streams, splits=LABELLED), prompts
