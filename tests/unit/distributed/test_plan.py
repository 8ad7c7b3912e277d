"""What an encode run has to do, how large it gets and how long it takes: arithmetic, worked by hand."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from affectgrid.data.annotations import LabelFile
from affectgrid.data.catalog import Track
from affectgrid.data.features.report import Amount, Cost, EncodePlan, StreamPlan, row_bytes
from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.plan import (
    CALIBRATE_FROM,
    Placement,
    Plan,
    cut_chunks,
    expected_time,
    num_units,
    plan_track,
    worth_calibrating,
)
from affectgrid.media.sampling import Source
from affectgrid.reporting.encoding import duration, print_plan, size


@given(st.integers(1, 5000), st.integers(1, 700))
def test_chunks_follow_on_one_another_and_differ_by_at_most_one(total, size):
    chunks = cut_chunks("visual", "t", total, size, video="v")
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    assert [chunk.start for chunk in chunks[1:]] == [chunk.stop for chunk in chunks[:-1]]
    assert (chunks[0].start, chunks[-1].stop) == (0, total)
    sizes = {chunk.size for chunk in chunks}
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


CONFIG = EncodeConfig(audio=AudioStream(hop_s=0.5), chunk_frames=20, chunk_hops=3)
TRACK = Track("b", "train", Path("b.mp4"), Path("crops/b"), Path("b.txt"))
SOURCE = Source(60, 2.4, True, "digest", (0, 18, 40))


@pytest.mark.parametrize(("last_s", "hop_s", "hops"), [(0.0, 0.2, 1), (1.0, 0.5, 3), (0.9, 0.5, 3), (1.01, 0.5, 4)])
def test_hops_reach_past_the_last_frame(last_s, hop_s, hops):
    config = EncodeConfig(audio=AudioStream(hop_s=hop_s))
    assert num_units("audio", Source(30, last_s, True, ""), config) == hops
    assert (hops - 1) * hop_s >= last_s


@pytest.mark.parametrize(("crop", "frames"), [("crops", 62), ("detect", 60), ("frame", 60)])
def test_crops_beyond_the_videos_last_frame_are_frames_too(crop: str, frames: int):
    config = EncodeConfig.model_validate({"visual": {"crop": crop}})
    assert num_units("visual", Source(60, 2.4, True, "", last_crop=62), config) == frames
    assert num_units("visual", Source(60, 2.4, True, "", last_crop=50), config) == 60


def test_crops_are_cut_evenly_and_a_video_at_its_keyframes():
    crops = plan_track(TRACK, "visual", SOURCE, {}, CONFIG)
    assert [(chunk.start, chunk.stop, chunk.crops) for chunk in crops.chunks] == [
        (0, 20, "crops/b"), (20, 40, "crops/b"), (40, 60, "crops/b"),
    ]  # fmt: skip
    whole = CONFIG.model_copy(update={"visual": VisualStream(crop="frame", frames="labelled")})
    frames = plan_track(TRACK, "visual", SOURCE, {}, whole)
    assert [(chunk.start, chunk.crops) for chunk in frames.chunks] == [(0, None), (18, None), (40, None)]
    assert {pickle.loads(chunk.annotation) for chunk in frames.chunks} == {LabelFile(Path("b.txt"))}
    sound = plan_track(TRACK, "audio", SOURCE, {}, CONFIG)
    assert [chunk.size for chunk in sound.chunks] == [3, 3]
    assert (sound.chunks[0].video, sound.source_sha256) == ("b.mp4", "digest")


def test_only_parts_at_the_same_positions_are_kept():
    track = plan_track(TRACK, "visual", SOURCE, {0: (0, 20), 1: (20, 38), 7: (140, 160)}, CONFIG)
    assert track.missing == {1, 2}
    assert [chunk.number for chunk in track.todo] == [1, 2]
    assert plan_track(TRACK, "visual", SOURCE, {k: (20 * k, 20 * k + 20) for k in range(3)}, CONFIG).todo == []


def test_chunks_of_a_killed_run_count_as_done():
    kept, complete = ({0: (0, 20), 1: (20, 40)}, {k: (20 * k, 20 * k + 20) for k in range(3)})
    plan = Plan(
        {
            ("b", "visual"): plan_track(TRACK, "visual", SOURCE, kept, CONFIG),
            ("c", "visual"): plan_track(TRACK, "visual", SOURCE, complete, CONFIG),
            ("c", "audio"): plan_track(TRACK, "audio", SOURCE, {}, CONFIG),
        }
    )
    assert [(chunk.stream, chunk.number) for chunk in plan.todo] == [("visual", 2), ("audio", 0), ("audio", 1)]
    assert plan.units == {"visual": 20, "audio": 6}
    visual = plan.tally("visual", {"a": 100}, {"d"}, dim=512)
    assert visual.there == Amount(4, 220)
    assert visual.done == Amount(1, 200)
    assert visual.todo == Amount(2, 20)
    assert visual.held == 1
    assert row_bytes(512) == 1036.125
    assert visual.todo_bytes == 20723  # 20 rows: 20,722.5
    assert visual.chunks == 1


@pytest.mark.parametrize(
    ("options", "cluster", "expected"),
    [
        ({}, {"cpus": 4, "gpus": 0}, (True, 4)),  # a core decodes and encodes
        ({}, {"cpus": 4, "gpus": 2}, (False, 2)),  # an encoder for each GPU
        ({"placement": "split"}, {"cpus": 5, "gpus": 0}, (False, 2)),  # half of the cores
        ({"placement": "split"}, {"cpus": 1, "gpus": 0}, (False, 1)),
        ({"placement": "fused"}, {"cpus": 4, "gpus": 2}, (True, 2)),
        ({"encoders": 3}, {"cpus": 8, "gpus": 0}, (True, 3)),
        ({"encoders": 30}, {"cpus": 8, "gpus": 0}, (True, 9)),  # no more than chunks
    ],
)
def test_the_work_is_spread_over_what_there_is(options, cluster, expected):
    placement = Placement.of(EncodeConfig(**options), 9, **cluster)
    assert (placement.fused, placement.encoders) == expected


def test_few_decoded_chunks_wait():
    assert Placement(False, encoders=2, cpus=8, gpus=2).max_waiting_chunks == 14  # 8 in the making, 3 for each encoder


COSTS = {"visual": Cost(0.1, 0.4), "audio": Cost(0.2, 0.5)}
STREAMS = [  # one chunk of a unit each: no last chunk is long
    StreamPlan("visual", Amount(1, 1000), Amount(), Amount(1, 1000), 0, 0.0, 1000),
    StreamPlan("audio", Amount(1, 2000), Amount(), Amount(1, 2000), 0, 0.0, 2000),
]


@pytest.mark.parametrize(
    ("resources", "decides", "expected_s"),
    [
        ({"cpus": 1, "encoders": 1}, "cores", 1900),  # one core does it all: 1000 x (0.1 + 0.4) + 2000 x (0.2 + 0.5)
        ({"cpus": 2, "encoders": 2}, "cores", 950),
        ({"cpus": 4, "encoders": 3}, "cores", 1900 / 3),
        ({"fused": False, "cpus": 4, "encoders": 2}, "encoders", 700),  # 1000 x 0.4 + 2000 x 0.5 on two
        ({"fused": False, "cpus": 8, "encoders": 2, "gpus": 2}, "GPUs", 700),
        ({"fused": False, "cpus": 8, "encoders": 7, "gpus": 7}, "cores", 500),  # a core that decodes: 100 + 400
    ],
)
def test_the_slowest_resource_decides_the_time(resources, decides, expected_s):
    placement = Placement(**{"fused": True, "gpus": 0} | resources)
    stage = expected_time(STREAMS, COSTS, placement, start_s=9, request_s=0)
    assert stage.bottleneck == decides
    assert stage.resources[decides] == pytest.approx(expected_s)
    assert stage.wall_s == pytest.approx(expected_s + 9, abs=1)


def test_a_stream_that_could_not_be_measured_counts_nothing():
    stage = expected_time(STREAMS, {"visual": Cost(1, 0)}, Placement(True, 1, 1, 0), start_s=0, request_s=0)
    assert stage.wall_s == pytest.approx(1000)


def test_short_runs_are_not_measured():
    assert not worth_calibrating({"visual": CALIBRATE_FROM - 1, "audio": 0})
    assert worth_calibrating({"visual": CALIBRATE_FROM - 1, "audio": 1})


def shown(plan):
    text = io.StringIO()
    print_plan(plan, hop_s=36.0, console=Console(file=text, width=80))
    return text.getvalue()


def test_a_plan_reads_as_a_table_and_a_time():
    streams = (
        StreamPlan("visual", Amount(3, 2200), Amount(1, 1200), Amount(1, 1000), 1, row_bytes(512)),
        StreamPlan("audio", Amount(3, 110), Amount(2, 110), Amount(), 1, row_bytes(768)),
    )
    times = {
        "costs": {"visual": Cost(0.001, 0.002)},
        "resources": {"cores": 5390.0, "driver": 3.0},
        "waits": {"start": 10.0},
    }
    text = shown(EncodePlan(streams, 1, 5400.0, 8, 1.0, **times))
    assert "a frame: 1.00 ms to decode, 2.00 ms to encode" in text
    assert "each alone: cores 89.8 min, driver 3 s" in text
    assert "on top: start 10 s" in text
    assert "limited by: cores. What would move it: more cores" in text
    assert "3 tracks, 2,200 frames" in text
    assert "1 tracks, 1,000 frames" in text
    assert "2 tracks, 110 hops" in text
    assert "1.0 MiB" in text  # 1,000 x 1,036.125 bytes
    assert "expected time: 90.0 min on 8 cores and 1 GPUs" in text
    assert "jobs/plan.py --hours 1.1 --track-minutes 22" in text  # 110 hops of 36 s, three tracks
    assert "1 streams of tracks whose files have changed" in text


def test_a_plan_without_work_says_so():
    assert "nothing to do" in shown(
        EncodePlan((StreamPlan("visual", Amount(1, 1), Amount(1, 1), Amount(), 0, 1.0),), 0, None, 1, 0.0)
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 KiB"), (3 << 30, "3.0 GiB"), (5 << 50, "5120 TiB")],
)
def test_sizes(count, text):
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "less than a second"), (119, "119 s"), (120, "2.0 min"), (7200, "2.0 h"), (172800, "2.0 days")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_edges_move_to_keyframes_that_are_near():
    def edges(keyframes, total=100, size=25):
        chunks = cut_chunks("visual", "t", total, size, video="v", keyframes=keyframes)
        assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
        assert [chunk.start for chunk in chunks[1:]] == [chunk.stop for chunk in chunks[:-1]]
        return [chunk.start for chunk in chunks] + [chunks[-1].stop]

    assert edges(()) == [0, 25, 50, 75, 100]
    assert edges((0, 20, 40, 60, 80)) == [0, 20, 40, 80, 100]  # 50 is as far from both: the earlier
    assert edges((0,)) == [0, 25, 50, 75, 100]  # none is near: the decoder goes by what comes before
    assert edges((0, 38, 62)) == [0, 25, 38, 75, 100]
    assert edges((0, 37, 64)) == [0, 37, 50, 64, 100]
