"""What a run would do, said before it; and what counts as changed."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from affectgrid.data.catalog import Catalog, Track, read_aff_wild2
from affectgrid.data.features.report import Amount, EncodePlan
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.streams import AudioStream
from affectgrid.data.features.table import FeatureTable
from affectgrid.data.features.timings import read_timings
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.plan import cut_chunks
from affectgrid.distributed.encode.run import encode, plan_encode
from affectgrid.media.video import probe_video
from support.processes import family

CONFIG = EncodeConfig(audio=AudioStream(hop_s=0.5), chunk_frames=16, chunk_hops=3, encoders=1)


@pytest.fixture
def catalog(ray_cluster: None, rendered: Path, tmp_path: Path) -> Catalog:
    """Three tracks, in a copy that tests may change."""
    corpus = tmp_path / "corpus"
    shutil.copytree(rendered, corpus)
    tracks = [track for track in read_aff_wild2(corpus).tracks if track.id in {f"rendered-00{n}" for n in (1, 3, 5)}]
    assert len(tracks) == 3
    return Catalog(corpus, tuple(tracks))


def frames_and_hops(tracks: tuple[Track, ...]) -> tuple[int, int]:
    infos = [probe_video(track.video) for track in tracks if track.video]
    return sum(i.num_frames for i in infos), sum(math.ceil(i.frame_times_s[-1] / 0.5) + 1 for i in infos)


def amounts(plan: EncodePlan) -> list[tuple[Amount, Amount, Amount, int]]:
    return [(stream.there, stream.done, stream.todo, stream.held) for stream in plan.streams]


def test_a_plan_counts_without_writing(catalog: Catalog, tmp_path: Path) -> None:
    frames, hops = frames_and_hops(catalog.tracks)
    plan, lost = plan_encode(catalog, tmp_path / "store", CONFIG)
    assert not (tmp_path / "store").exists()
    assert lost == []
    nothing = Amount()
    assert amounts(plan) == [(Amount(3, n), nothing, Amount(3, n), 0) for n in (frames, hops)]
    assert plan.seconds is not None
    assert 0 < plan.seconds < 600
    assert plan.cpus == 2


def test_a_plan_foretells_what_the_run_then_does(catalog: Catalog, tmp_path: Path) -> None:
    root = tmp_path / "store"
    encode(Catalog(catalog.root, catalog.tracks[:1]), root, CONFIG)
    bad = tmp_path / "corpus" / "bad.mp4"
    bad.write_bytes(b"no video")
    some = Catalog(catalog.root, (*catalog.tracks[:2], Track("bad", "test", bad, None, None)))
    plan, lost = plan_encode(some, root, CONFIG, calibrated=False)
    first, second = (frames_and_hops(catalog.tracks[k : k + 1]) for k in (0, 1))
    for stream, one, two in zip(plan.streams, first, second, strict=True):
        assert (stream.there, stream.done, stream.todo) == (Amount(3, one + two), Amount(1, one), Amount(1, two))
        assert stream.held == 1
    assert [failure.track for failure in lost] == ["bad"]
    assert FeatureStore(root).read_records("quarantine.jsonl") == []  # only looked at
    shown: list[EncodePlan] = []
    report = encode(some, root, CONFIG, show_plan=shown.append)
    assert [stream.todo for stream in shown[0].streams] == [stream.todo for stream in plan.streams]
    assert report.frames == sum(second)
    kept = {timing.stream: timing for timing in read_timings(FeatureStore(root))}
    assert {stream: timing.units for stream, timing in kept.items()} == {
        "visual": max(first[0], second[0]),
        "audio": max(first[1], second[1]),
    }
    assert all(cost.decode_s > 0 and cost.encode_s > 0 for cost in report.costs.values())
    assert report.costs.keys() == {"visual", "audio"}
    for stream in plan.streams:
        path = FeatureStore(root).track_path(stream.stream, report.fingerprints[stream.stream], catalog.tracks[1].id)
        assert abs(Path(path).stat().st_size - stream.todo_bytes) < 0.2 * stream.todo_bytes + 4096


def test_chunks_of_a_killed_run_are_not_counted_again(catalog: Catalog, tmp_path: Path) -> None:
    one, root = Catalog(catalog.root, catalog.tracks[:1]), tmp_path / "store"
    fingerprint = encode(one, root, CONFIG).fingerprints["visual"]
    store, track = FeatureStore(root), catalog.tracks[0].id
    whole = store.read("visual", fingerprint, track)
    before = Path(store.track_path("visual", fingerprint, track)).read_bytes()
    store.remove("visual", fingerprint, track)
    chunk = cut_chunks("visual", track, len(whole.frame_index), CONFIG.chunk_frames, video="")[1]
    rows = slice(chunk.start, chunk.stop)
    part = FeatureTable(whole.frame_index[rows], whole.time_s[rows], whole.present[rows], whole.feature[rows])
    store.write_part("visual", fingerprint, track, chunk.number, part)
    plan, _ = plan_encode(one, root, CONFIG, calibrated=False)
    assert plan.streams[0].todo == Amount(1, len(whole.frame_index) - chunk.size)
    report = encode(one, root, CONFIG)
    assert report.frames == len(whole.frame_index) - chunk.size
    assert Path(store.track_path("visual", fingerprint, track)).read_bytes() == before


def test_a_touched_video_is_not_encoded_again_and_a_changed_one_is(catalog: Catalog, tmp_path: Path) -> None:
    root, (first, second, _) = tmp_path / "store", catalog.tracks
    prints = encode(catalog, root, CONFIG).fingerprints
    store = FeatureStore(root)
    assert first.video is not None
    assert second.video is not None
    os.utime(first.video)
    touched, _ = plan_encode(catalog, root, CONFIG, calibrated=False)
    assert touched.changed == 0
    records = (root / "visual" / prints["visual"] / "sources.jsonl").read_text()
    assert encode(catalog, root, CONFIG).encoded == 0
    assert (root / "visual" / prints["visual"] / "sources.jsonl").read_text() != records  # not read a second time
    before = store.read("audio", prints["audio"], first.id)
    other = store.read("audio", prints["audio"], second.id)
    shutil.copyfile(second.video, first.video)
    plan, _ = plan_encode(catalog, root, CONFIG, calibrated=False)
    assert plan.changed == 2
    assert [stream.todo.tracks for stream in plan.streams] == [1, 1]
    report = encode(catalog, root, CONFIG)
    assert (report.encoded, report.skipped) == (2, 4)
    after = store.read("audio", prints["audio"], first.id)
    assert not np.array_equal(after.feature, before.feature)
    np.testing.assert_array_equal(after.feature, other.feature)
    facts = [store.read_metadata("audio", prints["audio"], track.id)["source_sha256"] for track in (first, second)]
    assert facts[0] != facts[1]  # the crops count, too, and they are still their own
    assert encode(catalog, root, CONFIG).encoded == 0


def test_a_repaired_video_leaves_quarantine(catalog: Catalog, tmp_path: Path) -> None:
    root, track = tmp_path / "store", catalog.tracks[0]
    one = Catalog(catalog.root, (track,))
    assert track.video is not None
    good = track.video.read_bytes()
    track.video.write_bytes(good[: len(good) // 3])
    assert [failure.track for failure in encode(one, root, CONFIG).quarantined] == [track.id]
    os.utime(track.video)
    assert encode(one, root, CONFIG).encoded == 0  # another date, the same bytes
    plan, lost = plan_encode(one, root, CONFIG, calibrated=False)
    assert [stream.held for stream in plan.streams] == [1, 1]
    assert len(lost) == 1
    track.video.write_bytes(good)
    report = encode(one, root, CONFIG)
    assert (report.encoded, report.quarantined) == (2, ())
    assert FeatureStore(root).read_records("quarantine.jsonl") == []


def test_the_job_says_its_plan_and_does_nothing(rendered: Path, short_tmp: Path, tmp_path: Path) -> None:
    with family(short_tmp) as group:
        process = group.start_job("encode", ["--dry-run", "--data", str(rendered), "--out", str(tmp_path)])
        out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err[-4000:]
    assert "Plan" in out
    assert "9 tracks" in out
    assert "expected time" in out
    assert "limited by" in out
    assert "jobs/plan.py --hours" in out
    assert not (tmp_path / "features").exists()
