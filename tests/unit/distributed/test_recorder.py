"""What the recorder makes of a trial that Tune gives up."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest

from affectgrid.distributed.tune.callback import NUM_RETRIES, Recorder
from affectgrid.search.space.reading import parse_space


class Heard:
    """Takes every call; those of `finish` and `finished` are kept."""

    def __init__(self) -> None:
        self.records: list[Any] = []

    def finish(self, record: Any) -> Any:
        self.records.append(record)
        return record

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: None


@pytest.mark.parametrize(("starts", "failed"), [(0, False), (1, False), (NUM_RETRIES + 1, True)])
def test_a_trial_fails_for_good_only_when_its_process_has_died_in_every_try(starts: int, failed: bool, tmp_path: Path):
    ledger = Heard()
    ledger.space = parse_space({"name": "s", "space": {"optim.lr": {"float": [1e-4, 1e-2]}}})
    recorder = Recorder(ledger, Heard(), Heard())
    (tmp_path / "error.txt").write_text(
        "Failure # 1 (occurred at one)\nthe first\n" * 2
        + "Failure # 3 (occurred at three)\n\nThe node is gone.\nmore\n"
    )
    config = {"number": 4, "proposal": {"optim.lr": 0.001}}
    trial = types.SimpleNamespace(config=config, last_result=None, error_file=str(tmp_path / "error.txt"))
    for _ in range(starts):
        recorder.on_trial_start(0, [], trial)
    recorder.on_trial_error(0, [], trial)
    assert [record.reason for record in ledger.records] == (["The node is gone. (tried 3 times)"] if failed else [])
