"""A study whose records are objects in a bucket: another head, with an empty disk, resumes it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from affectgrid.errors import ConfigError
from affectgrid.search.space.reading import parse_space
from affectgrid.search.study.assignment import assignment
from affectgrid.search.study.ledger import Ledger, open_ledger
from affectgrid.search.study.records import SeedRecord, TrialRecord
from affectgrid.search.study.sampling import make_sampler, propose
from affectgrid.storage import Storage, cache_folder
from support.bucket import Bucket, s3_server

SAMPLED = parse_space(
    {
        "name": "remote",
        "trials": 8,
        "space": {
            "optim.lr": {"float": [1e-4, 1e-2], "log": True},
            "prompt.mode": {"choice": ["ensemble", "none"]},
            "prompt.weight": {"float": [0.1, 1.0], "when": "prompt.mode != none"},
        },
        "points": [{"prompt.mode": "none"}],
    }
)
ARMS = parse_space(
    {"name": "remote", "seeds": [3, 4], "arms": [{"name": "a"}, {"name": "b", "set": {"optim.lr": 0.01}}]}
)
GRID = parse_space({"name": "remote", "sampler": "grid", "space": {"optim.epochs": {"int": [1, 6]}}})


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_server() as server:
        yield server


@pytest.fixture
def place(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setenv("AFFECTGRID_CACHE", str(tmp_path / "cache"))
    return Storage(bucket.uri(tmp_path.name))


def ask(ledger: Ledger) -> tuple[int, dict[str, object]]:
    ledger.study.sampler = make_sampler(ledger.space, num_asked=ledger.num_asked)
    trial = ledger.study.ask()
    proposal = propose(trial, space=ledger.space)
    ledger.propose(trial.number, proposal)
    return trial.number, proposal


def end(ledger: Ledger, number: int, proposal: dict[str, object], p: float) -> None:
    assigned = assignment(ledger.space, number, proposal)
    history = ({"epoch": 1.0, "val/p": p, "val/p_best": p},)
    ledger.finish(
        TrialRecord(
            number=number,
            label=assigned.label,
            state="complete",
            params=assigned.values,
            arm=assigned.arm,
            objective=p,
            seeds=tuple(SeedRecord(seed=seed, history=history) for seed in assigned.seeds),
        )
    )


def state(ledger: Ledger) -> list[tuple[object, ...]]:
    return [
        (trial.number, trial.params, trial.values, trial.intermediate_values)
        for trial in ledger.study.get_trials(states=[TrialState.COMPLETE])
    ]


@pytest.mark.parametrize("space", [SAMPLED, ARMS, GRID], ids=["sampled", "arms", "grid"])
def test_another_head_resumes_with_the_same_trials(space, place: Storage) -> None:
    with open_ledger(place, space, data="d") as ledger:
        asked = [ask(ledger) for _ in range(4)]
        for number in (0, 2):  # 1 and 3 are interrupted
            end(ledger, *asked[number], p=0.1 * number)
        before = state(ledger)
    shutil.rmtree(cache_folder())
    with open_ledger(place, space, data="d") as ledger:
        assert state(ledger) == before
        assert sorted(ledger.records) == [0, 2]
        again = [ask(ledger) for _ in range(2)]
        assert again == [asked[1], asked[3]]
        later = [ask(ledger) for _ in range(2 if space is not ARMS else 0)]
        assert [number for number, _ in later] == [4, 5][: len(later)]
        for number, proposal in [*again, *later]:
            end(ledger, number, proposal, p=0.5)
    with open_ledger(place, space, data="d") as ledger:
        assert sorted(ledger.records) == list(range(len(ledger.records)))
        assert len(ledger.study.get_trials(states=[TrialState.COMPLETE])) == len(ledger.records)
        if space is ARMS:
            seen = {(trial.params["arm"], trial.params["seed"]) for trial in ledger.study.trials}
            assert seen == {("a", 3), ("b", 3), ("a", 4), ("b", 4)}


def test_the_sampler_learns_from_what_another_head_tried(place: Storage) -> None:
    with open_ledger(place, SAMPLED, data="d") as ledger:
        for _ in range(6):
            number, proposal = ask(ledger)
            end(ledger, number, proposal, p=0.1 * number)
    shutil.rmtree(cache_folder())
    with open_ledger(place, SAMPLED, data="d") as ledger:
        known = ledger.study.get_trials(states=[TrialState.COMPLETE])
        assert all(
            isinstance(trial.distributions["optim.lr"], optuna.distributions.FloatDistribution) for trial in known
        )
        assert ledger.study.best_trial.number == 5


def test_other_settings_under_the_name_are_refused_and_nothing_is_lost(place: Storage) -> None:
    with open_ledger(place, SAMPLED, data="d") as ledger:
        end(ledger, *ask(ledger), p=0.3)
    shutil.rmtree(cache_folder())
    with pytest.raises(ConfigError, match="STUDY-CHANGED"), open_ledger(place, SAMPLED, data="other"):
        pass
    with open_ledger(place, SAMPLED, data="d") as ledger:
        assert len(ledger.records) == 1
        with pytest.raises(ConfigError, match="STUDY-BUSY"), open_ledger(place, SAMPLED, data="d"):
            pass
