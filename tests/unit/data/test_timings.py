"""What encoding took is kept in the store: the newest run that was long enough."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from affectgrid.data.catalog import read_aff_wild2
from affectgrid.data.features.report import Cost
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.timings import Timing, keep_timings, read_timings
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.encode.run import encode
from support.small_corpus import NUM_FRAMES, write_corpus

LONG = Timing("visual", "m", "cpu", 5000, 10.0, 20.0, 3.0)


def test_a_unit_costs_the_sum_over_the_units() -> None:
    assert LONG.cost == Cost(0.002, 0.004)


def test_the_newest_long_run_is_kept_of_each_encoder_and_device(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    assert read_timings(store) == ()
    keep_timings(store, [LONG, dataclasses.replace(LONG, device="cuda"), dataclasses.replace(LONG, stream="audio")])
    keep_timings(store, [dataclasses.replace(LONG, units=999), dataclasses.replace(LONG, stream="audio", units=1000)])
    kept = {(one.stream, one.device): one for one in read_timings(store)}
    assert {key: one.units for key, one in kept.items()} == {
        ("visual", "cpu"): 5000,
        ("visual", "cuda"): 5000,
        ("audio", "cpu"): 1000,
    }
    assert all(one.time for one in kept.values())


def test_runs_in_another_arithmetic_stand_side_by_side_and_old_files_are_read(tmp_path: Path) -> None:
    store, fast = FeatureStore(tmp_path), dataclasses.replace(LONG, runtime="openvino", precision="int8")
    old = {name: value for name, value in dataclasses.asdict(LONG).items() if name not in {"runtime", "precision"}}
    store.write_records([old], "timings.jsonl")
    keep_timings(store, [fast])
    assert {(one.runtime, one.precision) for one in read_timings(store)} == {("", ""), ("openvino", "int8")}


def test_a_run_that_encoded_nothing_leaves_no_file(tmp_path: Path) -> None:
    keep_timings(FeatureStore(tmp_path), [dataclasses.replace(LONG, units=0)])
    assert list(tmp_path.iterdir()) == []


def test_encoding_says_and_keeps_what_a_unit_took(tmp_path: Path) -> None:
    corpus = read_aff_wild2(write_corpus(tmp_path / "corpus"))
    report = encode(corpus, tmp_path / "store", EncodeConfig())
    kept = {timing.stream: timing for timing in read_timings(FeatureStore(tmp_path / "store"))}
    hops = NUM_FRAMES // 25 * 5 + 1  # of 0.2 s
    assert {stream: timing.units for stream, timing in kept.items()} == {"visual": 2 * NUM_FRAMES, "audio": 2 * hops}
    assert {(timing.runtime, timing.precision) for timing in kept.values()} == {("torch", "fp32")}
    assert {stream: timing.cost for stream, timing in kept.items()} == report.costs
    assert all(0 < part < report.seconds for one in kept.values() for part in (one.decode_s, one.encode_s))
