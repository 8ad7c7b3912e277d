"""Callbacks of Ray Train's controller for the epochs that its workers report."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ray.train import UserCallback
from ray.util.queue import Queue

from affectgrid.errors import TrackingError
from affectgrid.metrics import Metrics
from affectgrid.reporting.progress import bar
from affectgrid.tracking import RunLog

_log = logging.getLogger(__name__)


class EpochLog(UserCallback):  # type: ignore[misc]
    """Runs in Train's controller: passes on what rank 0 reports, each epoch once, even if a worker died in between."""

    def __init__(self, run: RunLog | None, on_epoch: Callable[[Metrics], None] | None) -> None:
        self.run, self.on_epoch = run, on_epoch
        self.known = (run.steps("epoch") or set()) if run else set()

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        epoch = int(metrics[0]["epoch"])
        if epoch in self.known or "step" in metrics[0]:  # in the middle of an epoch there is nothing to log
            return
        self.known.add(epoch)
        if self.run:
            try:
                self.run.metrics(metrics[0], step=epoch)
            except (TrackingError, LookupError) as error:  # the training goes on: the driver logs what is missing
                _log.error("%s", error)
                self.run = None
        if self.on_epoch:
            self.on_epoch(metrics[0])


@contextlib.contextmanager
def shown_progress(num_epochs: int) -> Iterator[Callable[[Metrics], None]]:
    """A progress bar in this process, and what Train's controller, another process, calls after each epoch."""
    queue = Queue(actor_options={"num_cpus": 0})
    with bar("train", num_epochs, "epochs") as advance:

        def follow() -> None:
            while queue.get() is not None:
                advance(1)

        thread = threading.Thread(target=follow, name="progress", daemon=True)
        thread.start()
        try:
            yield queue.put
        finally:
            queue.put(None)
            thread.join()
    queue.shutdown()
