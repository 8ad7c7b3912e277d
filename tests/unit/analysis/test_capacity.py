"""The formulas of a plan: worked by hand where that can be done, and against a simulation of single chunks and trials.

`pytest -s` prints each case of the simulation: hours by the formulas, by the simulation, and their ratio.
"""

from __future__ import annotations

import math
import statistics

import pytest

from affectgrid.analysis.capacity.conditions import Conditions
from affectgrid.analysis.capacity.encoding import Layout, estimate_encoding, needed_s
from affectgrid.analysis.capacity.machines import Fleet, divisions, find_machine
from affectgrid.analysis.capacity.queueing import tail_s, with_repeats
from affectgrid.analysis.capacity.search import SearchWork, estimate_search, needed_machines
from affectgrid.analysis.capacity.simulation.encoding import simulate_encoding
from affectgrid.analysis.capacity.simulation.search import simulate_search
from affectgrid.analysis.capacity.workload import Workload, stream_work
from affectgrid.data.features.report import Cost
from affectgrid.errors import ConfigError

QUIET = Conditions(boot_s=0, loss_per_hour=0, store_request_s=0)
SEEDS = range(3)
WITHIN = 0.15


def fleet(*groups: tuple[str, int]) -> Fleet:
    return Fleet(tuple((find_machine(name), count) for name, count in groups))


CPU_ONLY = fleet(("16cpu", 4))
DECODING_AHEAD = fleet(("16cpu", 6), ("8cpu+1gpu", 3))
DECODING_BEHIND = fleet(("8cpu+1gpu", 4))


def work(tracks: int, encode_s: float, chunk_hops: int = 600) -> Workload:
    """Tracks of 5,000 frames, whose sound costs 24 times as much a window as a picture."""
    visual = stream_work("visual", 5000, tracks, 256, Cost(0.0044, encode_s), row_bytes=1036, moved_bytes=150_528)
    cost = Cost(0.00015, 24 * encode_s)
    audio = stream_work("audio", 833, tracks, chunk_hops, cost, row_bytes=1548, moved_bytes=0)
    return Workload((visual, audio), tracks, video_bytes=42e6 * tracks)


def search(trials: int, pruned: float = 0.0) -> SearchWork:
    return SearchWork(trials, 20, 1.68e6, 0.38e6, 200, 80, 42_000, 29_000, pruned, warm_up=10 if pruned else 0)


@pytest.mark.parametrize(("length_s", "losses_s", "expected_s"), [(10, 0, 10), (10, 0.1, 17.1828), (1e5, 1, math.inf)])
def test_a_piece_that_begins_again_at_each_loss(length_s: float, losses_s: float, expected_s: float) -> None:
    assert with_repeats(length_s, losses_s) == pytest.approx(expected_s, rel=1e-4)


@pytest.mark.parametrize(
    ("pieces", "servers", "expected_s"),
    [
        (8, 1, 0.0),  # one server ends when all is done
        (9, 4, 7.5),  # three rounds of 10 s, where 9 x 10 s / 4 is 22.5 s
        (3, 4, 0.0),
        (1000, 4, 3.0),  # out of step: a remainder is uniform in 0 .. 10 s; the largest of 4 is 8, their mean 5
    ],
)
def test_the_last_piece_ends_after_the_mean(pieces: int, servers: int, expected_s: float) -> None:
    assert tail_s([(pieces, 10.0)], servers) == pytest.approx(expected_s, abs=0.02)


def test_machines_come_in_batches_that_grow() -> None:
    conditions = Conditions(boot_s=300, upscaling_speed=2.0)
    batches = [(300, 5), (600, 10), (900, 30), (1200, 90), (1500, 270), (1800, 595)]
    assert conditions.arrivals(1000) == batches
    assert conditions.arrivals(3) == [(300, 3)]
    assert QUIET.arrivals(1000) == [(0.0, 1000)]


def test_each_resource_by_hand() -> None:
    conditions = QUIET.model_copy(update={"driver_chunk_s": 0.01, "driver_track_s": 0.5, "driver_bytes_s": 1e6})
    visual = stream_work("visual", 1000, 10, 250, Cost(0.004, 0.002), row_bytes=1000, moved_bytes=100)
    one = Workload((visual,), 10)
    assert (visual.units, visual.chunks, visual.decode_chunk_s) == (10_000, 40, 1.0)
    whole = [(find_machine("4cpu+2gpu"), 1.0)]
    needs = needed_s(one, whole, conditions, Layout(fused=False))
    # 40 s of decoding on the 2 cores that hold no encoder; 20 s on 2 GPUs; 40 x 0.01 + 10 x 0.5 + 10 MB / 1 MB/s
    assert needs == pytest.approx({"GPUs": 10.0, "cores": 20.0, "network": 0.0, "driver": 15.4})
    fused = needed_s(one, [(find_machine("4cpu"), 1.0)], conditions, Layout(fused=True, encoders=3))
    assert fused["cores"] == pytest.approx(20.0)  # 60 s on 3 of 4 cores


def test_every_machine_copies_the_videos_that_it_decodes_from() -> None:
    visual = stream_work("visual", 512, 100, 256, Cost(0, 0), row_bytes=0, moved_bytes=0)
    two = Workload((visual,), 100, video_bytes=6.25e9)
    machine = find_machine("c7i.4xlarge")  # 0.78 GB/s
    assert needed_s(two, [(machine, 1.0)], QUIET, Layout(fused=True))["network"] == pytest.approx(8.0)
    # two chunks of a track: of ten machines one copies it with the chance 1 - 0.9^2
    assert needed_s(two, [(machine, 10.0)], QUIET, Layout(fused=True))["network"] == pytest.approx(8.0 * 0.19)


def test_losses_that_come_faster_than_chunks_end_never_end() -> None:
    conditions = QUIET.model_copy(update={"loss_per_hour": 0.5})
    stage = estimate_encoding(work(10_000, 0.066), fleet(("16cpu", 4000)), conditions)
    assert stage.wall_s == math.inf


def test_a_stage_says_where_its_time_goes() -> None:
    conditions = Conditions(boot_s=300, loss_per_hour=0.5, store_request_s=0)
    stage = estimate_encoding(work(300, 0.066), CPU_ONLY, conditions)
    assert stage.wall_s == pytest.approx(max(stage.resources.values()) + sum(stage.waits.values()))
    assert stage.bottleneck == "cores"
    slow = conditions.model_copy(update={"store_request_s": 10.0})
    assert estimate_encoding(work(300, 0.066), CPU_ONLY, slow).bottleneck == "driver"


def test_costs_by_hand() -> None:
    machines = fleet(("10cpu@2", 3))
    stage = estimate_encoding(work(300, 0.066), machines, QUIET)
    assert stage.usd() == pytest.approx(3 * 2 * (stage.wall_s - QUIET.prepare_s + QUIET.idle_s) / 3600)
    assert estimate_encoding(work(300, 0.066), CPU_ONLY, QUIET).usd() is None


@pytest.mark.parametrize("store_request_s", [0.0, 0.1], ids=["disk", "bucket"])
@pytest.mark.parametrize("losses", [0.0, 0.5])
@pytest.mark.parametrize("boot_s", [0, 300])
@pytest.mark.parametrize(
    ("tracks", "encode_s", "machines"),
    [
        (100, 0.066, CPU_ONLY),
        (150, 0.0003, DECODING_AHEAD),
        (600, 0.0003, DECODING_AHEAD),
        (200, 1e-4, DECODING_BEHIND),
    ],
    ids=["cpu", "gpu-short", "gpu", "decoding"],
)
def test_encoding_takes_as_long_as_in_the_simulation(
    tracks: int, encode_s: float, machines: Fleet, boot_s: float, losses: float, store_request_s: float
) -> None:
    conditions = Conditions(boot_s=boot_s, loss_per_hour=losses, store_request_s=store_request_s)
    todo = work(tracks, encode_s)
    stage = estimate_encoding(todo, machines, conditions)
    courses = [simulate_encoding(todo, machines, conditions, seed) for seed in SEEDS]
    agree(stage, courses, f"{tracks} tracks, {machines}, boot {boot_s} s, losses {losses}, request {store_request_s} s")


@pytest.mark.parametrize("losses", [0.0, 0.1])
@pytest.mark.parametrize("boot_s", [0, 300])
@pytest.mark.parametrize("pruned", [0.0, 0.531])
@pytest.mark.parametrize("machines", [CPU_ONLY, DECODING_AHEAD], ids=["cpu", "gpu"])
@pytest.mark.parametrize("trials", [12, 40, 200])
def test_a_search_takes_as_long_as_in_the_simulation(
    trials: int, machines: Fleet, pruned: float, boot_s: float, losses: float
) -> None:
    conditions = Conditions(boot_s=boot_s, loss_per_hour=losses)
    todo = search(trials, pruned)
    stage = estimate_search(todo, machines, conditions)
    courses = [simulate_search(todo, machines, conditions, seed) for seed in SEEDS]
    agree(stage, courses, f"{trials} trials, {stage.fleet}, pruned {pruned}, boot {boot_s} s, losses {losses}")


def test_every_loss_begins_the_encoders_of_a_run_again() -> None:
    conditions = Conditions(boot_s=0, loss_per_hour=5, store_request_s=0)
    todo, machines = work(600, 0.0003), fleet(("16cpu", 3), ("8cpu+1gpu", 12))
    courses = [simulate_encoding(todo, machines, conditions, seed) for seed in range(6)]
    agree(estimate_encoding(todo, machines, conditions), courses, "5 losses an hour, 12 GPUs")


def test_a_loss_costs_a_trial_what_was_not_saved() -> None:
    conditions = Conditions(boot_s=0, loss_per_hour=2, checkpoint_s=1200)
    courses = [simulate_search(search(200), CPU_ONLY, conditions, seed) for seed in range(6)]
    agree(estimate_search(search(200), CPU_ONLY, conditions), courses, "2 losses an hour, saved every 20 min")


def agree(stage, courses, what: str) -> None:
    """Wall time and machine hours within the bound; losses do happen where they may."""
    simulated_s = statistics.fmean(course.wall_s for course in courses)
    paid_s = statistics.fmean(sum(course.machine_s.values()) for course in courses)
    planned_s = sum(seconds for name, seconds in stage.machine_s.items() if name != "m7i.xlarge")
    ratio = stage.wall_s / simulated_s
    print(f"\n{what}: {stage.wall_s / 3600:.2f} h, simulated {simulated_s / 3600:.2f} h, ratio {ratio:.3f}", end="")
    assert ratio == pytest.approx(1, abs=WITHIN)
    assert planned_s / paid_s == pytest.approx(1, abs=WITHIN)


def test_the_simulation_loses_machines_and_is_the_same_for_a_seed() -> None:
    conditions = Conditions(boot_s=300, loss_per_hour=0.5)
    first, again, other = (simulate_encoding(work(100, 0.066), CPU_ONLY, conditions, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert first.losses + other.losses > 0


def test_a_pruner_saves_what_was_measured_of_the_trials_that_it_is_asked_about() -> None:
    todo = search(210, 0.531)
    mean = sum(count * length_s for count, length_s in todo.mix()) / 210 / todo.trial_s
    assert mean == pytest.approx((10 + 200 * 0.469) / 210, rel=1e-3)
    # 20 epochs of 8,400 windows at 80 a second, and of 380,000 frames at 42,000 a second
    assert todo.trial_s == pytest.approx(20 * (105 + 9.048), rel=1e-3)


def test_a_search_uses_no_more_machines_than_it_has_trials() -> None:
    assert str(needed_machines(search(40), DECODING_AHEAD)) == "3 x 8cpu+1gpu"  # 4 trials on each GPU, none without
    assert str(needed_machines(search(40), CPU_ONLY)) == "3 x 16cpu"
    assert estimate_search(search(10), CPU_ONLY, QUIET).bottleneck == "one trial"
    assert estimate_search(search(400), CPU_ONLY, QUIET).bottleneck == "slots"


@pytest.mark.parametrize("name", ["c7i.9xlarge", "0cpu", "cpu", "4cpu+gpu", "-1cpu", "4cpu@x"])
def test_an_unknown_machine_is_named_with_what_is_known(name: str) -> None:
    with pytest.raises(ConfigError, match=r"CFG-MACHINE.*c7i\.4xlarge"):
        find_machine(name)


def test_machines_are_divided_in_every_way() -> None:
    both = [find_machine("2cpu"), find_machine("2cpu+1gpu")]
    assert [str(one) for one in divisions(both, 3)] == ["1 x 2cpu + 2 x 2cpu+1gpu", "2 x 2cpu + 1 x 2cpu+1gpu"]
    assert [str(one) for one in divisions(both[:1], 3)] == ["3 x 2cpu"]
    with pytest.raises(ConfigError, match="CFG-MACHINE"):
        list(divisions([*both, find_machine("4cpu")], 3))
