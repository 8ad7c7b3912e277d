"""Records on their way to MLflow: delivered at once, or kept in a file while it cannot be reached."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

from affectgrid.credentials import without_credentials
from affectgrid.tracking.connection import is_outage, locked, refusal
from affectgrid.tracking.records import Record, apply

_log = logging.getLogger(__name__)
_RETRY_AFTER_S = 20.0  # between two attempts to reach a server that has gone away
_down_until: dict[str, float] = {}


@dataclasses.dataclass(frozen=True)
class Delivery:
    """The records of a study's run and of all runs below it, in order: what waits comes before what is new.

    So a run is made before anything is logged to it, and once the file of kept records is gone MLflow has everything.

    Args:
        uri: of the MLflow store.
        kept: file of the records that wait.
    """

    uri: str
    kept: Path

    @classmethod
    def of(cls, uri: str, experiment_id: str, study: str, spool: Path) -> Delivery:
        """The delivery of the study's run of that name, and of those below it."""
        name = hashlib.sha256(f"{experiment_id}:{study}".encode()).hexdigest()[:32]
        return cls(uri, spool / f"{name}.jsonl")

    @property
    def _artifacts(self) -> Path:
        """Copies of files and folders that wait: the originals may be gone when they are delivered."""
        return self.kept.with_suffix("")

    @property
    def is_down(self) -> bool:
        """Whether MLflow could not be reached a moment ago, and is not asked again yet."""
        return time.monotonic() < _down_until.get(self.uri, 0.0)

    def send(self, record: Record) -> bool:
        """Deliver a record after those that wait, or keep it while MLflow cannot be reached. True if it made a run.

        Raises TrackingError, with the record kept, where MLflow refuses this client (TRK-AUTH, TRK-FORBIDDEN), and what
        MLflow raises where it refuses the record.
        """
        with locked(self.kept):
            if not self.is_down:
                try:
                    self._deliver_kept()
                    made = apply(self.uri, record)
                    _down_until.pop(self.uri, None)
                    return made
                except Exception as error:  # requests, sqlalchemy and mlflow each have their own
                    refused = refusal(self.uri, error)
                    if refused is not None:
                        self._keep(record)
                        raise refused from None
                    if not is_outage(error):
                        raise
                    self._tell(error)
                    _down_until[self.uri] = time.monotonic() + _RETRY_AFTER_S
            self._keep(record)
        return False

    def deliver_kept(self) -> bool:
        """Deliver what waits; False while MLflow cannot be reached. Raises TrackingError as `send` does."""
        with locked(self.kept):
            try:
                self._deliver_kept()
            except Exception as error:
                refused = refusal(self.uri, error)
                if refused is not None:
                    raise refused from None
                self._tell(error)
                return False
            _down_until.pop(self.uri, None)
        return True

    def _tell(self, error: Exception) -> None:
        """Once for each time that it goes away: a server may be gone for a day."""
        level = logging.DEBUG if self.uri in _down_until else logging.WARNING
        found = without_credentials(f"MLflow at {self.uri} cannot be reached ({error})")
        _log.log(level, "%s; what is logged waits in %s", found, self.kept.parent)

    def _keep(self, record: Record) -> None:
        kept: dict[str, Any] = dict(record)
        if record["op"] == "open":
            kept["new"] = False  # the request that failed may have made it
        if record["op"] in ("artifact", "model"):
            source = Path(record["path"])
            copy = self._artifacts / uuid.uuid4().hex / source.name
            copy.parent.mkdir(parents=True)
            shutil.copytree(source, copy) if source.is_dir() else shutil.copy2(source, copy)
            kept["path"] = str(copy)
        with self.kept.open("a") as file:
            file.write("\n" + json.dumps(kept))  # the line end comes first: it ends a line of which a kill left half
            file.flush()
            os.fsync(file.fileno())

    def _deliver_kept(self) -> None:
        if not self.kept.exists():
            return
        for line in self.kept.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                self._deliver_one(json.loads(line))
        self.kept.unlink()
        shutil.rmtree(self._artifacts, ignore_errors=True)

    def _deliver_one(self, record: Record) -> None:
        try:
            apply(self.uri, record)
        except Exception as error:
            if is_outage(error) or refusal(self.uri, error) is not None:
                raise
            # It would be refused again, and must not hold back what comes after it.
            _log.error("MLflow refuses a record of %s that waited: %s", record.get("run"), error)


def deliver_all(uri: str, spool: Path) -> None:
    """Deliver what earlier processes left in `spool`; what cannot be delivered stays, with a warning."""
    for kept in spool.glob("*.jsonl"):
        Delivery(uri, kept).deliver_kept()
