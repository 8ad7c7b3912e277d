"""The log of one MLflow run: its calls are records that are delivered now or later."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from affectgrid.tracking.connection import client, is_outage
from affectgrid.tracking.delivery import Delivery

Status = Literal["FINISHED", "FAILED", "KILLED"]
_MAX_PARAM_LENGTH = 6000


def _now_ms() -> int:
    return int(time.time() * 1000)


@dataclasses.dataclass(frozen=True)
class Point:
    """Metrics of one step, usually an epoch, and when they were known, in milliseconds since 1970."""

    step: int
    values: Mapping[str, float]
    time_ms: int = dataclasses.field(default_factory=_now_ms)


@dataclasses.dataclass(frozen=True)
class RunLog:
    """One MLflow run. It pickles, so that any process of the cluster can log to it.

    What cannot be delivered because MLflow has gone away waits in `spool` and is delivered, in order, by a later call
    or by the next `open_tracker`. Every record carries its time, so that delivering it twice leaves one.
    """

    uri: str
    experiment_id: str
    run_id: str
    spool: Path
    fresh: bool = False  # made by the call that returned it: so it has no children yet

    @property
    def page(self) -> str:
        """Where the run's page is, relative to the address of MLflow's user interface."""
        return f"#/experiments/{self.experiment_id}/runs/{self.run_id}"

    def params(self, values: Mapping[str, object], *, first: bool = False) -> None:
        """Log parameters.

        A parameter that already has another value keeps it (MLflow's never change), and the new value becomes a tag.
        `first`: the run has no parameters yet, and need not be asked.
        """
        texts = {name: str(value)[:_MAX_PARAM_LENGTH] for name, value in values.items()}
        self._log({"op": "params", "values": texts, "first": first})

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log metrics of a step, usually an epoch."""
        self.points([Point(step, values)])

    def points(self, points: Iterable[Point]) -> None:
        """Log metrics of several steps at once: a request has a cost of its own, whatever it carries."""
        self.write(points, {})

    def tags(self, values: Mapping[str, object]) -> None:
        """Set tags; a tag that is there is replaced."""
        self.write([], values)

    def write(self, points: Iterable[Point], tags: Mapping[str, object]) -> None:
        """Metrics and tags in one request."""
        rows = [(name, float(value), one.time_ms, one.step) for one in points for name, value in one.values.items()]
        self._log({"op": "write", "rows": rows, "tags": {name: str(value) for name, value in tags.items()}})

    def steps(self, metric: str) -> set[int] | None:
        """The steps at which a metric was logged; None while MLflow cannot be reached."""
        try:
            return {point.step for point in client(self.uri).get_metric_history(self.run_id, metric)}
        except Exception as error:
            if not is_outage(error):
                raise
            return None

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Store a copy of a file, or of a folder's contents, under `folder` in the run's artefacts."""
        self._log({"op": "artifact", "path": str(path.resolve()), "folder": folder})

    def finish(self, status: Status = "FINISHED") -> None:
        """Close the run."""
        self._log({"op": "status", "status": status, "time": _now_ms()})

    def _log(self, record: dict[str, Any]) -> None:
        Delivery(self.uri, self.run_id, self.spool).send(record)
