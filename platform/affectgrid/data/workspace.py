"""Where a run keeps its results: one place for everything, so that it can be copied, shared or deleted."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

from affectgrid.errors import ConfigError, Problem, StoreError
from affectgrid.storage import Storage, cache_folder


@dataclasses.dataclass(frozen=True)
class Workspace:
    """The places under one root (``--out``), a folder or an address. It pickles, and is the same on every node."""

    root: Storage

    @classmethod
    def open(cls, place: Path | str | Storage) -> Workspace:
        """Check that the root is writable, before any work. Raises ConfigError (CFG-STORAGE)."""
        root = Storage(place)
        root = root if root.path is None else Storage(root.path.resolve())
        if root.path is not None and any(part.startswith("_ray_pkg_") for part in root.path.parts):
            raise ConfigError(
                Problem(
                    "CFG-STORAGE",
                    where=root.address,
                    found="a folder of Ray's session, which is deleted with the cluster",
                    expected="a place that outlives it",
                    hint="name one with --out or AFFECTGRID_OUT: a bucket such as s3://bucket/x, or a shared folder",
                )
            )
        try:
            root.require_writable()
        except (StoreError, OSError) as error:
            found = error.problems[0].found if isinstance(error, StoreError) else str(error)
            raise ConfigError(
                Problem(
                    "CFG-STORAGE",
                    where=root.address,
                    found=found,
                    expected="a writable folder, or an address such as s3://bucket/x",
                    hint="name another with --out",
                )
            ) from error
        return cls(root)

    @property
    def features(self) -> Storage:
        """The feature store."""
        return self.root / "features"

    @property
    def studies(self) -> Storage:
        """One folder per search."""
        return self.root / "studies"

    def newest_model(self) -> Storage:
        """The best model of the study that ended last. Raises ConfigError (CFG-MODEL) where there is none."""
        ended = []
        for study in self.studies.list_folders():
            if self.studies.exists(f"{study}/best/model/config.json"):
                ended.append((self.studies.stat(f"{study}/summary.json").modified, study))
        if ended:
            return self.studies / max(ended)[1] / "best" / "model"
        hint = "run jobs/tune.py, or name a package with --model"
        raise ConfigError(
            Problem("CFG-MODEL", where=self.studies.address, found="no study", expected="a finished one", hint=hint)
        )

    @property
    def runs(self) -> Storage:
        """One folder per training run."""
        return self.root / "runs"

    @property
    def evaluations(self) -> Storage:
        """One folder per evaluation."""
        return self.root / "evaluations"

    @property
    def predictions(self) -> Storage:
        """Predictions, a file per track."""
        return self.root / "predictions"

    def corpus(self, name: str) -> Storage:
        """The rendered corpus."""
        return self.root / "corpora" / name

    def node_folder(self, name: str) -> Path:
        """A folder on this node's disk for files that can be made again: under a local root, else in the cache."""
        if self.root.path is not None:
            return self.root.path / name
        return cache_folder() / "workspaces" / hashlib.sha256(self.root.address.encode()).hexdigest()[:16] / name

    @property
    def mapped(self) -> Path:
        """Memory-mapped splits; a cache that can be deleted."""
        return self.node_folder("mapped")

    @property
    def artifacts(self) -> Path | None:
        """MLflow's files, beside its database; a server keeps its own."""
        return self.root.path / "mlartifacts" if self.root.path is not None else None

    @property
    def tracking_uri(self) -> str:
        """``MLFLOW_TRACKING_URI`` where it is set, else a SQLite database here. Raises ConfigError (CFG-TRACKING).

        A database cannot be in a bucket, and on the driver's own disk it would be lost with the machine.
        """
        if uri := os.environ.get("MLFLOW_TRACKING_URI"):
            return uri
        if self.root.path is None:
            raise ConfigError(
                Problem(
                    "CFG-TRACKING",
                    where=self.root.address,
                    found="no MLFLOW_TRACKING_URI, and a place that cannot hold a SQLite database",
                    expected="the address of an MLflow server",
                    hint="start one as in docs/cluster.md, and set MLFLOW_TRACKING_URI",
                )
            )
        return f"sqlite:///{self.root.path / 'mlflow.db'}"
