"""How many frames need no forward pass when unchanged ones take an earlier frame's features, and what it does to P."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from affectgrid.data.catalog import Catalog, read_folder
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.streams import VisualStream
from affectgrid.data.workspace import Workspace
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.run import encode
from affectgrid.distributed.options import DataOptions
from affectgrid.distributed.prepare import prepare
from affectgrid.training.config import TrainConfig
from affectgrid.training.loop import fit

pytestmark = pytest.mark.timeout(3600)

BOUNDS = (None, 4.0, 8.0, 16.0)  # grey levels
SEEDS = range(5)


def saved(store: FeatureStore) -> float:
    """The share of frames with a face whose features are those of the frame before."""
    frames = repeated = 0
    for fingerprint in store.fingerprints("visual"):
        for track in store.tracks("visual", fingerprint):
            table = store.read("visual", fingerprint, track)
            both = table.present[1:] & table.present[:-1]
            same = (table.feature[1:] == table.feature[:-1]).all(1)
            frames, repeated = frames + int(table.present.sum()), repeated + int((both & same).sum())
    return repeated / max(frames, 1)


@pytest.mark.usefixtures("ray_cluster")
def test_encode_skip(say: Callable[..., None], tmp_path: Path) -> None:
    """On the rendered corpus: frames saved, P, and its paired difference from encoding every frame, five seeds."""
    workspace, scores, shares = (
        Workspace.open(tmp_path / "out"),
        dict[float | None, np.ndarray](),
        dict[float | None, float](),
    )
    config = TrainConfig.model_validate({"prompt": {"mode": "learned"}})
    for bound in BOUNDS:
        options = DataOptions(
            encode=EncodeConfig(visual=VisualStream(skip_unchanged=bound)), store=str(tmp_path / f"{bound}")
        )
        data = prepare(options, workspace, [config.prompt.file], [config.prompt.mode])
        shares[bound] = saved(FeatureStore(tmp_path / f"{bound}"))
        runs = (config.model_copy(update={"seed": seed}) for seed in SEEDS)
        scores[bound] = np.array(
            [fit(run, data.train, data.validation, data.prompts_for(run)).best["val/p"] for run in runs]
        )
    for bound, own in scores.items():
        difference = own - scores[None]
        half = stats.t.ppf(0.975, len(own) - 1) * difference.std(ddof=1) / len(own) ** 0.5
        figures = f"P {own.mean():.3f} +- {own.std(ddof=1):.3f}, {difference.mean():+.3f} +- {half:.3f}"
        say(f"encode_skip rendered {bound}", 1 - shares[bound], f"share of frames encoded; {figures}", "told")


@pytest.mark.media
@pytest.mark.usefixtures("ray_cluster")
def test_encode_skip_real(say: Callable[..., None], media: Path, tmp_path: Path) -> None:
    """On real clips with a face: frames saved. Faces are detected anew in each frame, so their crops jump."""
    clips = ("obama_speech", "single_face", "face_noface")
    catalog = read_folder(media)
    catalog = Catalog(catalog.root, tuple(track for track in catalog.tracks if track.id in clips))
    for every in (1, 5):
        for bound in BOUNDS[1:]:
            store = tmp_path / f"{every}-{bound}"
            visual = VisualStream(crop="detect", detect_every=every, skip_unchanged=bound)
            encode(catalog, store, EncodeConfig(visual=visual))
            share = 1 - saved(FeatureStore(store))
            say(
                f"encode_skip real {bound}",
                share,
                f"share of frames encoded, a face detected every {every} frames",
                "told",
            )
