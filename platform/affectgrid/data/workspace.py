"""Where a run keeps what it makes. One folder holds everything, so that it can be copied, shared or thrown away."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from affectgrid.errors import ConfigError, Problem


@dataclasses.dataclass(frozen=True)
class Workspace:
    """The folders under one root (``--out``). It is absolute: Ray's workers live in folders of their own."""

    root: Path

    @classmethod
    def open(cls, place: Path | str) -> Workspace:
        """Make the root and see that it can be written, before any work. Raises ConfigError (CFG-STORAGE)."""
        root = Path(place).expanduser().resolve()
        probe = root / f".write-test-{os.getpid()}"
        try:
            root.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"affectgrid")
            probe.unlink()
        except OSError as error:
            raise ConfigError(
                Problem(
                    "CFG-STORAGE",
                    where=str(root),
                    found=str(error),
                    expected="a folder that can be written",
                    hint="name another with --out",
                )
            ) from error
        return cls(root)

    @property
    def features(self) -> Path:
        """The feature store."""
        return self.root / "features"

    @property
    def mapped(self) -> Path:
        """Splits as files that processes map; a cache, to be removed at will."""
        return self.root / "mapped"

    @property
    def studies(self) -> Path:
        """One folder per search."""
        return self.root / "studies"

    @property
    def runs(self) -> Path:
        """One folder per training run."""
        return self.root / "runs"

    @property
    def artifacts(self) -> Path:
        """MLflow's files."""
        return self.root / "mlartifacts"

    def corpus(self, name: str) -> Path:
        """A corpus that is rendered here."""
        return self.root / "corpora" / name

    @property
    def tracking_uri(self) -> str:
        """``MLFLOW_TRACKING_URI`` where it is set, else a SQLite database here."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.root / 'mlflow.db'}"
