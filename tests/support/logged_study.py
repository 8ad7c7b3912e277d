"""A small search that logs to MLflow, and what MLflow must have of it afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from affectgrid.analysis.summary import StudySummary
from affectgrid.distributed.tune import finalize
from affectgrid.distributed.tune import run as study_run
from affectgrid.distributed.tune.mlflow_logger import StudyLog
from affectgrid.distributed.tune.run import tune
from affectgrid.search.space.reading import parse_space
from affectgrid.tracking import open_tracker
from support.planted import planted_data
from support.study_driver import SPACE

NUM_TRIALS = 4


def spooled(folder: Path) -> list[Path]:
    return list((folder / "cache" / "mlflow-spool").rglob("*.jsonl"))


class Study:
    """A small search that logs to a server; `before` says what happens at its turning points."""

    def __init__(self, storage: Path, patch: pytest.MonkeyPatch) -> None:
        self.storage, self.patch = storage, patch

    def run(self, uri: str, before: dict[str, Callable[[], None]] | None = None) -> StudySummary:
        pending = dict(before or {})

        def at(moment: str) -> None:
            pending.pop(moment, lambda: None)()

        started, finished, report = StudyLog.started, StudyLog.finished, finalize.report
        counts = {"started": 0, "finished": 0}

        def on_started(log: StudyLog, assigned: Any, began_at: float | None = None) -> None:
            at(f"start {counts['started']}")
            counts["started"] += 1
            started(log, assigned, began_at)

        def on_finished(log: StudyLog, record: Any) -> None:
            at(f"end {counts['finished']}")
            counts["finished"] += 1
            finished(log, record)

        def on_report(*arguments: Any) -> None:
            at("report")
            report(*arguments)

        with self.patch.context() as patch:
            patch.setattr(StudyLog, "started", on_started)
            patch.setattr(StudyLog, "finished", on_finished)
            patch.setattr(study_run, "report", on_report)
            space = parse_space(SPACE | {"trials": NUM_TRIALS})
            summary = tune(space, planted_data(), storage=self.storage, tracker=open_tracker(uri, "study"))
        assert pending == {}
        return summary

    @property
    def marks(self) -> set[str]:
        """Of what MLflow has, as the study's place says."""
        return {path.name if path.name != "logged" else path.parent.name for path in self._marks()}

    def _marks(self) -> list[Path]:
        folder = self.storage / "small"
        return [*folder.glob("trials/*/logged"), *folder.glob("report.logged")]


def check_complete(uri: str, summary: StudySummary) -> None:
    """Every metric of every trial once, every parameter, and the artefacts of the report and of the best model."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("study").experiment_id
    runs = client.search_runs([experiment])
    trials = {int(run.data.tags["trial"]): run for run in runs if "trial" in run.data.tags}
    assert sorted(trials) == list(range(NUM_TRIALS))
    (root,) = [run for run in runs if "trial" not in run.data.tags]
    assert {run.info.status for run in runs} == {"FINISHED"}
    for record in summary.trials:
        run = trials[record.number]
        assert run.data.tags["mlflow.parentRunId"] == root.info.run_id
        assert float(run.data.params["optim.lr"]) == pytest.approx(record.params["optim.lr"])
        assert run.data.metrics["best/p"] == record.score("val/p")
        for name in record.seeds[0].history[0].keys() - {"epoch"}:
            logged = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
            assert logged == [(row["epoch"], row[name]) for row in record.seeds[0].history], name
    assert summary.best is not None
    best = trials[summary.best.number].info.run_id
    pages = {path.name for path in summary.folder.glob("*.html")}
    assert files(client, root.info.run_id, "report") == pages | {"summary.json"} > {"report.html"}
    drawn = {folder: {path.name for path in (summary.folder / folder).glob("*.png")} for folder in ("best", "search")}
    assert files(client, root.info.run_id, "figures") == drawn["best"] | drawn["search"] > {"plane.png"}
    assert files(client, best, "figures") == drawn["best"]
    assert "model.safetensors" in files(client, best, "model")
    (model,) = client.search_logged_models([experiment])
    assert (model.source_run_id, model.status.value) == (best, "READY")
    assert root.data.tags["best_trial"] == str(summary.best.number)


def files(client: MlflowClient, run_id: str, folder: str) -> set[str]:
    return {Path(file.path).name for file in client.list_artifacts(run_id, folder)}
