"""The test split stays unseen: a search runs, and confirms, while reading any of it would raise."""

from __future__ import annotations

from pathlib import Path

import pytest

from affectgrid.data.catalog import read_aff_wild2
from affectgrid.data.workspace import Workspace
from affectgrid.distributed.options import DataOptions, open_catalog, tell_unlabelled
from affectgrid.distributed.prepare import encode_data, prepare
from affectgrid.distributed.tune.run import tune
from affectgrid.errors import AffectGridError
from affectgrid.search.space.reading import parse_space
from affectgrid.tracking import open_tracker
from support.study_driver import SMALL


@pytest.mark.usefixtures("ray_cluster")
def test_a_search_runs_while_the_test_split_cannot_be_read(rendered: Path, short_tmp: Path):
    workspace, options = Workspace.open(short_tmp), DataOptions(data=str(rendered))
    encoded = encode_data(options, workspace)
    tracks = {track.id for track in encoded.catalog.split("test")}
    assert tracks
    poisoned = [path for path in workspace.features.folder.rglob("*.parquet") if path.stem in tracks]
    assert len(poisoned) == 2 * len(tracks)  # both streams
    for path in poisoned:
        path.write_bytes(b"poison")
    with pytest.raises(AffectGridError):
        encoded.split("test")  # reading it does raise

    space = parse_space(
        {"name": "blind", "trials": 2, "constants": SMALL, "space": {"optim.lr": {"float": [1e-3, 1e-2]}}}
    )
    data = prepare(options, workspace, prompt_files=space.prompt_files())
    assert not tracks & {*data.train.track_ids, *data.validation.track_ids}
    tracker = open_tracker(workspace.tracking_uri, "tests")
    summary = tune(space, data, storage=workspace.studies.folder, tracker=tracker, num_confirm=1)
    assert summary.num_failed == 0
    assert summary.confirmation is not None
    assert all(path.read_bytes() == b"poison" for path in poisoned)  # nor was it encoded again


@pytest.mark.usefixtures("ray_cluster")
def test_training_encodes_no_track_without_labels_and_none_that_a_list_leaves_out(
    rendered: Path, short_tmp: Path, caplog: pytest.LogCaptureFixture
):
    catalog, wanted = read_aff_wild2(rendered), short_tmp / "wanted.txt"
    assert catalog.unlabelled
    out = [catalog.split(name)[0].id for name in ("train", "validation")]
    wanted.write_text("\n".join(track.id for track in catalog.tracks if track.id not in out))
    workspace, options = Workspace.open(short_tmp / "out"), DataOptions(data=str(rendered), tracks=(wanted,))
    data = prepare(options, workspace, prompt_files=["2x2-plain"])
    used = {*data.train.track_ids, *data.validation.track_ids}
    assert used == {track.id for track in catalog.tracks} - {*out, *catalog.unlabelled}
    assert {path.stem for path in workspace.features.folder.rglob("*.parquet")} == used
    tell_unlabelled(open_catalog(options, workspace))
    assert f"{len(catalog.unlabelled)} of {len(catalog.tracks) - 2} tracks have no labels" in caplog.text
