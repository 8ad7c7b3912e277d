"""The log of one MLflow run: its calls are records that are delivered now or later."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from affectgrid.tracking.connection import client, credentials, is_outage, refusal
from affectgrid.tracking.data_sets import DataSet
from affectgrid.tracking.delivery import Delivery
from affectgrid.tracking.models import model_record, write_model
from affectgrid.tracking.pages import LEVEL, LEVELS, NOTE, STUDY, view_tag
from affectgrid.tracking.records import MARK, find_marks, find_run

_Answer = TypeVar("_Answer")
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
    """One MLflow run. It pickles, with this process's credentials, so that any process of the cluster can log to it.

    What cannot be delivered because MLflow has gone away, the run's creation too, waits in `spool` and is delivered, in
    order, by a later call or by the next `open_tracker`. Every call raises TrackingError (TRK-AUTH, TRK-FORBIDDEN)
    where MLflow refuses this client.

    Args:
        uri: of the MLflow store.
        experiment_id: of the experiment.
        names: the study's name, then the child's key, then the grandchild's.
        spool: folder where records wait.
        fresh: made by the call that returned it, so that it holds nothing yet.
    """

    uri: str
    experiment_id: str
    names: tuple[str, ...]
    spool: Path
    fresh: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (credentials(), self.uri, self.experiment_id, self.names, self.spool, self.fresh)

    @property
    def run_id(self) -> str:
        """MLflow's id of the run. Raises LookupError while it waits to be made."""
        return find_run(self.uri, self.experiment_id, self.names)

    def mark(self, name: str = "") -> str:
        """Log that all is logged, last of all, and return what `marks` has once it is: a new one each time."""
        mark = uuid.uuid4().hex
        self.tags({f"{MARK}{name}": mark})
        return mark

    def marks(self) -> frozenset[str] | None:
        """The marks of this run and of its children that MLflow has now; None while it cannot be asked.

        A mark that is not among them was made in a database that was lost, or set back to an older copy, since.
        """
        if self._delivery.is_down:
            return None
        nothing: frozenset[str] = frozenset()
        return self._ask(lambda: find_marks(self.uri, self.experiment_id, self.run_id), absent=nothing)

    @property
    def page(self) -> str:
        """Where the run's page is, relative to the address of MLflow's user interface. Raises as `run_id` does."""
        return f"#/experiments/{self.experiment_id}/runs/{self.run_id}"

    @property
    def delivered(self) -> bool:
        """Whether MLflow has all that was logged to the study's run and to those below it."""
        return not self._delivery.kept.exists()

    def deliver(self) -> bool:
        """Try now to deliver what waits; whether MLflow has everything afterwards."""
        return self._delivery.deliver_kept()

    def opened(self, name: str, tags: Mapping[str, object], *, new: bool = False, time_ms: int | None = None) -> RunLog:
        """Make the run under this display name, or reopen it. `new`: it is known not to exist.

        `time_ms` is when it began, in milliseconds since 1970; default: now.
        """
        own = {STUDY: self.names[0], LEVEL: LEVELS[min(len(self.names), len(LEVELS)) - 1]}
        texts = {**_origin(tags), **own, **_texts(tags)}
        record = {"op": "open", "name": name, "tags": texts, "new": new, "time": time_ms or _now_ms()}
        return dataclasses.replace(self, fresh=self._log(record))

    def params(self, values: Mapping[str, object], *, first: bool = False) -> None:
        """Log parameters.

        A parameter that already has another value keeps it (MLflow's never change), and the new value becomes a tag.
        `first`: the run has no parameters yet, and need not be asked.
        """
        texts = {name: text[:_MAX_PARAM_LENGTH] for name, text in _texts(values).items()}
        self._log({"op": "params", "values": texts, "first": first})

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log metrics of a step, usually an epoch."""
        self.points([Point(step, values)])

    def points(self, points: Iterable[Point], *, once: bool = False) -> None:
        """Log metrics of several steps at once: a request has a cost of its own, whatever it carries.

        A value that a reopened run has at that step already is left out, and with `once` in any run.
        """
        self.write(points, {}, once=once)

    def tags(self, values: Mapping[str, object]) -> None:
        """Set tags; a tag that is there is replaced."""
        self.write([], values)

    def write(self, points: Iterable[Point], tags: Mapping[str, object], *, once: bool = False) -> None:
        """Metrics and tags in one request."""
        rows = [(name, float(value), one.time_ms, one.step) for one in points for name, value in one.values.items()]
        self._log({"op": "write", "rows": rows, "tags": _texts(tags), "once": once or not self.fresh})

    def steps(self, metric: str) -> set[int] | None:
        """The steps at which a metric was logged; None while MLflow cannot be reached or the run waits to be made."""
        history = self._ask(lambda: client(self.uri).get_metric_history(self.run_id, metric), absent=None)
        return None if history is None else {point.step for point in history}

    def _ask(self, question: Callable[[], _Answer], absent: _Answer) -> _Answer | None:
        """`absent` where there is no such run; None while MLflow cannot be reached. Raises TrackingError."""
        try:
            return question()
        except LookupError:
            return absent
        except Exception as error:
            refused = refusal(self.uri, error)
            if refused is not None:
                raise refused from None
            if not is_outage(error):
                raise
            return None

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Store a copy of a file, or of a folder's contents, under `folder` in the run's artefacts."""
        self._log({"op": "artifact", "path": str(path.resolve()), "folder": folder})

    def model(self, package: Path, metrics: Mapping[str, float], *, name: str, register: str | None = None) -> None:
        """Log a model package as an MLflow model of this run, with what was scored; the same one twice is logged once.

        `register`: the registered model of which it becomes a version, the champion; then encoders that are directories
        of this machine go along.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = write_model(package, Path(folder) / "model", whole=register is not None)
            self._log(model_record(path, name=name, metrics=metrics, register=register))

    def inputs(self, data_sets: Iterable[DataSet]) -> None:
        """Say what the run learnt from and was scored on."""
        self._log({"op": "inputs", "data_sets": [dataclasses.asdict(one) for one in data_sets]})

    def view(self, columns: Sequence[str], sort_by: str, note: str) -> None:
        """Keep how the page of this study's trials looks, see `pages.view_tag`, and what the experiment's page says."""
        tags = view_tag(self.names[0], columns, sort_by) | {NOTE: note}
        self._log({"op": "experiment", "tags": tags})

    def finish(self, status: Status = "FINISHED", *, name: str = "", time_ms: int | None = None) -> None:
        """Close the run, under another display name where one is given; `time_ms` is when it ended, by default now."""
        self._log({"op": "status", "status": status, "time": time_ms or _now_ms(), "name": name})

    @property
    def _delivery(self) -> Delivery:
        return Delivery.of(self.uri, self.experiment_id, self.names[0], self.spool)

    def _log(self, record: dict[str, Any]) -> bool:
        return self._delivery.send({"experiment_id": self.experiment_id, "run": list(self.names), **record})


def _origin(tags: Mapping[str, object]) -> dict[str, str]:
    """What MLflow shows as a run's source, version and user."""
    named = {"mlflow.source.name": "command", "mlflow.source.git.commit": "commit"}
    found = {mlflow: str(tags[own]) for mlflow, own in named.items() if str(tags.get(own, "unknown")) != "unknown"}
    with contextlib.suppress(OSError, KeyError):  # a container may run as a number without a name
        found["mlflow.user"] = getpass.getuser()
    return {**found, "mlflow.source.type": "LOCAL"}


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}


def _restore(secrets: dict[str, str], *fields: Any) -> RunLog:
    """In another process. Its own credentials, where it has some, are the right ones for its node."""
    for name, value in secrets.items():
        os.environ.setdefault(name, value)
    return RunLog(*fields)
