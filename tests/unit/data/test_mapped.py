"""A split in mapped files: the same numbers, made once, never torn, and a node without the files makes them."""

from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from affectgrid.data.annotations import Annotation, write_annotation
from affectgrid.data.catalog import Track
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.table import FeatureTable
from affectgrid.data.splits.feed import FeedOptions, feed
from affectgrid.data.splits.mapped import MappedSplit, SplitSource, map_split
from affectgrid.data.splits.resident import Split, SplitPlan, plan_split
from affectgrid.errors import StoreError
from affectgrid.training.loop import fit
from support.planted import columns_of, planted_prompts, planted_split, small_config

LENGTHS = (30, 7, 45)


@pytest.fixture
def plan(tmp_path: Path) -> SplitPlan:
    """Three tracks that a model can learn from, in a real store with real annotations; the last has no labels."""
    store, tracks = FeatureStore(tmp_path / "features"), []
    split = planted_split("train", LENGTHS)
    for number, name in enumerate(split.track_ids):
        rows = split.track(number)
        for stream in ("visual", "audio"):
            present, feature = (getattr(split.streams[stream], part)[rows].copy() for part in ("present", "feature"))
            feature[~present] = 0
            store.write_part(
                stream, "f0", name, 0, FeatureTable(split.frame_index[rows], split.time_s[rows], present, feature)
            )
            store.finalize(stream, "f0", name, 1, {"encoder": f"planted-{stream}"})
        path = tmp_path / f"{name}.txt"
        write_annotation(path, Annotation(split.va[rows], split.labelled[rows]))
        tracks.append(Track(name, "train", None, None, path if number < 2 else None, source=f"tape{number % 2}"))
    return plan_split(store, tracks, fingerprints={"visual": "f0", "audio": "f0"}, name="train")


def assert_same(one: Split, other: Split) -> None:
    assert (one.name, one.track_ids, one.encoders) == (other.name, other.track_ids, other.encoders)
    assert one.raw_videos == other.raw_videos
    assert len(columns_of(one)) == 9
    for name, value in columns_of(one).items():
        assert value.dtype == columns_of(other)[name].dtype
        np.testing.assert_array_equal(value, columns_of(other)[name], err_msg=name)


def test_the_plan_knows_the_size_before_a_feature_is_read(plan: SplitPlan) -> None:
    split = plan.fill()
    assert plan.size_bytes == sum(value.nbytes for name, value in columns_of(split).items() if name != "offsets")
    assert split.offsets.tolist() == [0, 30, 37, 82]  # the length of the last comes from its features


def test_maps_hold_what_memory_holds(plan: SplitPlan, tmp_path: Path) -> None:
    mapped = map_split(plan, tmp_path / "cache")
    assert_same(mapped, plan.fill())
    plain = np.load(mapped.home / "visual.feature.npy")  # that any tool reads
    assert mapped.streams["visual"].feature.tolist() == plain.tolist()
    with pytest.raises(ValueError, match="read-only"):
        mapped.streams["visual"].feature[0] = 0


def test_what_is_there_is_not_written_again(plan: SplitPlan, tmp_path: Path) -> None:
    before = (map_split(plan, tmp_path / "cache").home / "visual.feature.npy").stat()
    after = (map_split(plan, tmp_path / "cache").home / "visual.feature.npy").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_torn_file_is_noticed_and_made_again(plan: SplitPlan, tmp_path: Path) -> None:
    home = map_split(plan, tmp_path / "cache").home
    os.truncate(home / "audio.feature.npy", (home / "audio.feature.npy").stat().st_size - 1)
    assert_same(map_split(plan, tmp_path / "cache"), plan.fill())


def test_a_writer_that_is_killed_leaves_nothing_that_is_taken_for_a_split(plan: SplitPlan, tmp_path: Path) -> None:
    script = """
import os, pathlib, pickle, signal, sys
from affectgrid.data.splits.mapped import map_split
pathlib.Path.rename = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)
map_split(pickle.load(open(sys.argv[1], "rb")).plan(), pathlib.Path(sys.argv[2]))
"""
    (tmp_path / "source").write_bytes(pickle.dumps(SplitSource.of(plan)))
    command = [sys.executable, "-c", script, str(tmp_path / "source"), str(tmp_path / "cache")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, env=environment, timeout=120).returncode == -signal.SIGKILL
    left = list((tmp_path / "cache").glob(".*.draft"))
    assert len(left) == 1
    assert_same(map_split(plan, tmp_path / "cache"), plan.fill())
    assert not left[0].exists()


def test_a_full_disk_is_told_and_kills_nobody(plan: SplitPlan, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(tmp_path / "cache")]
    if subprocess.run([*namespace, *mount], capture_output=True).returncode:
        pytest.skip("needs a mount namespace of its own: unshare --user --mount")
    script = """
import pathlib, pickle, subprocess, sys
from affectgrid.data.splits.mapped import map_split
from affectgrid.errors import StoreError
subprocess.run(sys.argv[3:], check=True)
try:
    map_split(pickle.load(open(sys.argv[1], "rb")).plan(), pathlib.Path(sys.argv[2]))
except StoreError as error:
    left = [path.suffix for path in pathlib.Path(sys.argv[2]).iterdir()]
    print(error.problems[0].code, *left)
"""
    (tmp_path / "source").write_bytes(pickle.dumps(SplitSource.of(plan)))
    command = [*namespace, sys.executable, "-c", script, str(tmp_path / "source"), str(tmp_path / "cache"), *mount]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, timeout=120, capture_output=True, text=True)
    assert done.stdout.split() == ["STO-FULL", ".lock"], done.stderr


def test_it_travels_by_name_and_keeps_what_was_replaced(plan: SplitPlan, tmp_path: Path) -> None:
    mapped = map_split(plan, tmp_path / "cache")
    va = mapped.va.copy()
    va[0] = 0.25
    changed = dataclasses.replace(mapped, encoders={"visual": "other"}, va=va)
    sent = pickle.dumps(changed, protocol=5)
    assert len(sent) < 3000 + va.nbytes  # no feature is among it
    assert_same(pickle.loads(sent), changed)


def test_a_node_without_the_files_makes_them(plan: SplitPlan, tmp_path: Path) -> None:
    sent = pickle.dumps(map_split(plan, tmp_path / "cache"))
    shutil.rmtree(tmp_path / "cache")
    arrived = pickle.loads(sent)
    assert isinstance(arrived, MappedSplit)
    assert_same(arrived, plan.fill())


def test_other_labels_make_another_folder_and_are_not_taken_for_the_first(plan: SplitPlan, tmp_path: Path) -> None:
    mapped = map_split(plan, tmp_path / "cache")
    sent = pickle.dumps(mapped)
    annotation = plan.tracks[0].annotation
    assert annotation is not None
    write_annotation(annotation, Annotation(np.full((30, 2), 0.5, np.float32), np.ones(30, bool)))
    assert map_split(mapped.source.plan(), tmp_path / "cache").home != mapped.home
    assert_same(pickle.loads(sent), plan.fill())  # the files of the run that began with the old labels
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(StoreError, match="STO-CHANGED"):
        pickle.loads(sent)


def test_training_on_maps_is_training_on_memory(plan: SplitPlan, tmp_path: Path) -> None:
    results = [
        fit(small_config(), train, planted_split("validation", [35, 20]), planted_prompts())
        for train in (plan.fill(), map_split(plan, tmp_path / "cache"))
    ]
    assert results[0].history == results[1].history
    for name, weight in results[0].model.state_dict().items():
        assert torch.equal(weight, results[1].model.state_dict()[name])


@pytest.mark.parametrize(
    ("mode", "size", "mapped"),
    [("auto", 12, False), ("auto", 13, True), ("resident", 1000, False), ("mapped", 1, True)],
)
def test_resident_splits_may_take_a_quarter_of_the_memory_twice_over(mode: str, size: int, mapped: bool) -> None:
    assert FeedOptions.model_validate({"mode": mode}).mapped(size, memory_bytes=100) is mapped


def test_the_feed_maps_into_the_folder_that_is_named(plan: SplitPlan, tmp_path: Path, caplog) -> None:
    (resident,) = feed([plan], FeedOptions(), tmp_path / "default")
    assert type(resident) is Split
    assert not (tmp_path / "default").exists()
    (mapped,) = feed([plan], FeedOptions(memory_share=1e-12), tmp_path / "default")
    assert isinstance(mapped, MappedSplit)
    assert mapped.home.parent == tmp_path / "default"
    assert "mapped from" in caplog.text
    (elsewhere,) = feed([plan], FeedOptions(mode="mapped", folder=tmp_path / "local"), tmp_path / "default")
    assert isinstance(elsewhere, MappedSplit)
    assert elsewhere.home.parent == tmp_path / "local"
