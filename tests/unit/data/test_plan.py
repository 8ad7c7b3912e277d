"""What an encode run has to do, how large it gets and how long it takes: arithmetic, worked by hand."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from affectgrid.data.features.plan import (
    CALIBRATE_FROM,
    Amount,
    Cost,
    EncodePlan,
    cut_chunks,
    expected_seconds,
    num_hops,
    row_bytes,
    tally,
    worth_calibrating,
)
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


@pytest.mark.parametrize(("last_s", "hop_s", "hops"), [(0.0, 0.2, 1), (1.0, 0.5, 3), (0.9, 0.5, 3), (1.01, 0.5, 4)])
def test_hops_reach_past_the_last_frame(last_s, hop_s, hops):
    assert num_hops(last_s, hop_s) == hops
    assert (hops - 1) * hop_s >= last_s


def test_chunks_of_a_killed_run_count_as_done():
    plan = tally("visual", {"a": 100}, {"b": (60, 20), "c": (40, 40)}, {"d"}, dim=512)
    assert plan.there == Amount(4, 200)
    assert plan.done == Amount(1, 140)
    assert plan.todo == Amount(2, 60)
    assert plan.held == 1
    assert row_bytes(512) == 1036.125
    assert plan.todo_bytes == 62168  # 60 rows: 62,167.5


@pytest.mark.parametrize(
    ("resources", "expected_s"),
    [
        ({"cpus": 1, "encoders": 1}, 19.0),  # one core does it all: 10 x (0.1 + 0.4) + 20 x (0.2 + 0.5)
        ({"cpus": 2, "encoders": 2}, 9.5),
        ({"cpus": 4, "encoders": 1}, 14.0),  # the one encoder is the limit: 10 x 0.4 + 20 x 0.5
        ({"cpus": 4, "encoders": 3}, 4.75),  # all cores are
        ({"cpus": 2, "encoders": 8, "gpus": 2}, 7.0),  # an encoder for each GPU
        ({"cpus": 1, "encoders": 8, "gpus": 7}, 5.0),  # decoding is the limit: 10 x 0.1 + 20 x 0.2
    ],
)
def test_the_slowest_resource_decides_the_time(resources, expected_s):
    costs = {"visual": Cost(0.1, 0.4), "audio": Cost(0.2, 0.5)}
    assert expected_seconds({"visual": 10, "audio": 20}, costs, **resources) == pytest.approx(expected_s)


def test_a_stream_that_could_not_be_measured_counts_nothing():
    assert expected_seconds({"visual": 10, "audio": 20}, {"visual": Cost(1, 0)}, cpus=1, encoders=1) == 10


def test_short_runs_are_not_measured():
    assert not worth_calibrating({"visual": CALIBRATE_FROM - 1, "audio": 0})
    assert worth_calibrating({"visual": CALIBRATE_FROM - 1, "audio": 1})


def shown(plan):
    text = io.StringIO()
    print_plan(plan, console=Console(file=text, width=80))
    return text.getvalue()


def test_a_plan_reads_as_a_table_and_a_time():
    streams = (
        tally("visual", {"a": 1200}, {"b": (1000, 1000)}, {"c"}, dim=512),
        tally("audio", {"a": 60, "b": 50}, {}, {"c"}, dim=768),
    )
    text = shown(EncodePlan(streams, 1, 5400.0, 8, 1.0))
    assert "3 tracks, 2,200 frames" in text
    assert "1 tracks, 1,000 frames" in text
    assert "2 tracks, 110 hops" in text
    assert "1.0 MiB" in text  # 1,000 x 1,036.125 bytes
    assert "expected time: 90.0 min on 8 cores and 1 GPUs" in text
    assert "1 streams of tracks whose files have changed" in text


def test_a_plan_without_work_says_so():
    assert "nothing to do" in shown(EncodePlan((tally("visual", {"a": 1}, {}, (), 4),), 0, None, 1, 0.0))


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
