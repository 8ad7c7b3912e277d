"""A whole plan: its options, where its times come from, storage and money by hand, and what it says."""

from __future__ import annotations

import dataclasses
import io
import re
import subprocess
import sys

import pytest
import yaml
from rich.console import Console

from affectgrid.analysis.capacity import encoding, search
from affectgrid.analysis.capacity.machines import DISK_USD_PER_HOUR, HEAD, MACHINES
from affectgrid.analysis.capacity.options import PlanOptions
from affectgrid.analysis.capacity.planning import CapacityPlan, make_plan
from affectgrid.analysis.capacity.simulation.courses import simulate_plan
from affectgrid.data.features.timings import Timing
from affectgrid.errors import ConfigError
from affectgrid.reporting.encoding import MOVES, duration, print_capacity
from support.processes import REPOSITORY


def plan(measured: tuple[Timing, ...] = (), **options: object) -> CapacityPlan:
    return make_plan(PlanOptions.model_validate({"hours": 28} | options), measured)


def shown(made: CapacityPlan) -> str:
    text = io.StringIO()
    print_capacity(made, console=Console(file=text, width=100))
    return text.getvalue()


def test_units_storage_and_money_by_hand() -> None:
    made = plan(track_minutes=4, trials=10, machines=["4cpu@0.5"], nodes=2, conditions={"boot_s": 0})
    assert [(stream.units, stream.tracks) for stream in made.work.streams] == [(420 * 7200, 420), (420 * 1201, 420)]
    assert [stream.chunks for stream in made.work.streams] == [420 * 29, 420 * 3]  # 7,200 / 256 and 1,201 / 600
    assert made.storage_bytes["features"] == pytest.approx(420 * (7200 * 1036.125 + 1201 * 1548.125))
    assert made.storage_bytes["videos, which are yours"] == pytest.approx(28 * 0.9e9)
    assert made.storage_bytes["models and records"] == pytest.approx(10 * (8.4e6 + 0.93e6))
    assert made.storage_bytes["checkpoints, while trials run"] == pytest.approx(8 * 4 * 8.4e6)  # 8 cores
    assert made.node_bytes == pytest.approx(28 * 108_000 * 2560)
    assert made.encode.usd
    stays = made.encode.on_demand
    assert made.encode.usd[1] == pytest.approx(2 * 0.5 * (stays.wall_s - 10 + 300) / 3600)
    assert made.encode.usd[0] == pytest.approx(2 * 0.5 / 3 * (made.encode.spot.wall_s - 10 + 300) / 3600)


def test_prices_and_kinds_are_those_of_cluster_yaml() -> None:
    text = (REPOSITORY / "cluster.yaml").read_text()
    kinds = yaml.safe_load(text)["available_node_types"].values()
    there = {kind["node_config"]["InstanceType"]: kind["resources"] for kind in kinds}
    assert there.keys() == {*MACHINES, HEAD.name}
    for machine in (*MACHINES.values(), HEAD):
        assert there[machine.name] == {"CPU": machine.cpus} | ({"GPU": machine.gpus} if machine.gpus else {})
        price = re.search(rf"{re.escape(machine.name)} (\d+\.\d+)", text)
        assert price
        assert machine.usd_per_hour == pytest.approx(float(price[1]) + DISK_USD_PER_HOUR)


def test_times_are_given_or_measured_or_stated_defaults() -> None:
    measured = Timing("visual", "ViT-B-32/x", "cuda", 2000, 4.0, 1.0, 9.0, "2026-01-02T03:04:05+00:00")
    cpu = Timing("visual", "ViT-B-32/x", "cpu", 2000, 40.0, 10.0, 9.0, "2026-01-02T03:04:05+00:00")
    default = plan().times["visual"]
    assert (default.cost.decode_s, default.cost.encode_s) == (0.0044, 1 / 3600)
    own = plan((measured, cpu), visual={"model": "ViT-B-32/x", "dim": 512}).times["visual"]
    assert (own.cost.decode_s, own.cost.encode_s) == (0.002, 0.0005)
    assert own.encode_source == "measured by the run of 2026-01-02 (2,000 units)"
    other = plan((measured,), visual={"model": "ViT-B-32/y", "dim": 512}).times["visual"]
    assert other == default
    exact = dataclasses.replace(
        measured, encode_s=3.0, time="2026-02-02T03:04:05+00:00", runtime="torch", precision="fp32"
    )
    newest = plan((exact, measured), visual={"model": "ViT-B-32/x", "dim": 512}).times["visual"]
    assert newest.cost.encode_s == 0.0015
    assert newest.encode_source == "measured by the run of 2026-02-02 (2,000 units, torch in fp32)"
    asked = plan((exact, measured), visual={"model": "ViT-B-32/x", "dim": 512, "precision": "bf16"}).times["visual"]
    assert asked == default
    given = plan((measured,), visual={"model": "ViT-B-32/x", "dim": 512, "encode_ms": 7.0}).times["visual"]
    assert (given.cost.decode_s, given.cost.encode_s, given.encode_source) == (0.002, 0.007, "given")
    assert plan(visual={"model": "new", "dim": 9, "encode_ms": 7.0}).times["visual"].cost.encode_s == 0.007


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"hours": 0}, "CFG-HOURS"),
        ({"hours": -3}, "CFG-HOURS"),
        ({"hours": float("inf")}, "CFG-HOURS"),
        ({"machines": ["z9.large"]}, "CFG-MACHINE"),
        ({"machines": ["4cpu", "4cpu"]}, "CFG-MACHINE"),
        ({"nodes": 5, "runs": 3}, "CFG-NODES"),
        ({"visual": {"model": "unheard", "dim": 512}}, "CFG-TIMES"),
    ],
)
def test_a_plan_that_cannot_be_made_says_why(options: dict[str, object], code: str) -> None:
    with pytest.raises(ConfigError, match=code):
        plan(**options)


def test_one_driver_limits_a_thousand_machines_and_more_runs_free_them() -> None:
    options = {"hours": 100_000, "labelled_hours": 250, "trials": 200, "nodes": 1000}
    one = plan(**options)
    assert one.encode.spot.bottleneck == "driver"
    assert one.enough.nodes < 100
    assert "nearly as fast with" in shown(one)
    assert "of its driver's memory at least" in shown(one)
    many = plan(**options, runs=25, chunk_frames=2048)
    assert many.encode.spot.wall_s < one.encode.spot.wall_s / 30
    assert many.fleet.nodes == 1000
    assert "of its driver's memory" not in shown(many)


def test_the_fastest_division_is_taken_and_the_cheapest_of_equals() -> None:
    kinds = {"hours": 1000, "machines": ["16cpu@1", "2cpu+1gpu@5"], "nodes": 10}
    quick = {"boot_s": 0, "store_request_s": 0, "driver_chunk_s": 0, "loss_per_hour": 0}
    # 150,000 s on GPUs and 475,000 s on cores, of which each GPU takes one: 16,667 and 19,000 s with nine GPUs,
    # 18,750 and 11,880 s with eight
    assert str(plan(**kinds, conditions=quick).fleet) == "2 x 16cpu@1 + 8 x 2cpu+1gpu@5"
    slow = quick | {"store_request_s": 1.0}  # the driver limits: the cheapest
    assert str(plan(**kinds, conditions=slow).fleet) == "9 x 16cpu@1 + 1 x 2cpu+1gpu@5"


def test_features_that_a_machines_disk_does_not_hold_are_told() -> None:
    assert "has a disk of 93 GiB" in shown(plan(hours=1000, trials=5))
    assert "has a disk of" not in shown(plan(hours=1000, trials=5, labelled_hours=200))


def test_whatever_limits_a_stage_has_a_way_out() -> None:
    resources = {encoding.CORES, encoding.ENCODERS, encoding.GPUS, encoding.NETWORK, encoding.DRIVER}
    resources |= {search.SLOTS, search.LONGEST}
    made = plan(trials=10)
    assert made.search
    waits = {*made.encode.spot.waits, *made.search.spot.waits}
    assert resources | waits == MOVES.keys()


def test_what_never_ends_says_so() -> None:
    made = plan(hours=100_000, machines=["16cpu@1"], nodes=4000, conditions={"loss_per_hour": 0.5})
    assert duration(made.encode.spot.wall_s) == "never"
    assert "encode is limited by: machines lost" in shown(made)
    assert made.encode.on_demand.wall_s < 1e8


def test_a_plan_too_large_to_simulate_says_so() -> None:
    with pytest.raises(ConfigError, match="CFG-SIMULATE"):
        simulate_plan(plan(hours=100_000), 1)
    courses = simulate_plan(plan(hours=50, trials=5, runs=2), 2)
    assert {name: len(course) for name, course in courses.items()} == {"encode": 2, "search": 2}


def test_the_job_prints_a_plan_and_reads_what_an_earlier_run_measured(tmp_path) -> None:
    def job(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "jobs/plan.py", "--out", str(tmp_path), *options]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)

    done = job("--hours", "28", "--trials", "40", "--simulate", "1")
    assert done.returncode == 0, done.stderr
    said = ("28 hours in 336 videos", "limited by", "cost, USD", "What would move it", "simulated 1 times")
    assert [words for words in said if words not in done.stdout] == []
    assert list(tmp_path.iterdir()) == []
    features = tmp_path / "features"
    features.mkdir()
    row = (
        '{"stream": "visual", "model": "mine", "device": "cpu", "units": 4000, "decode_s": 8.0, "encode_s": 4.0, '
        '"start_s": 5.0, "time": "2026-01-02T03:04:05+00:00"}\n'
    )
    (features / "timings.jsonl").write_text(row)
    done = job("--hours", "1", "--machines", "2cpu", "--nodes", "1", "--visual.model", "mine")
    assert "2.00 ms to decode (measured by the run of 2026-01-02 (4,000 units)), 1.00 ms to encode" in done.stdout
    done = job("--hours", "0")
    assert (done.returncode, "CFG-HOURS" in done.stderr) == (2, True)
