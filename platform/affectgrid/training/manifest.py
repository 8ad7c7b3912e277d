"""What makes a result reproducible, and what makes two runs the same run."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from affectgrid.data.splits.resident import Split
from affectgrid.training.config import METHOD_VERSION, TrainConfig
from affectgrid.training.data import EncodedPrompts

_LIBRARIES = (
    "affectgrid",
    "torch",
    "ray",
    "optuna",
    "mlflow",
    "open_clip_torch",
    "transformers",
    "pyarrow",
    "av",
    "numpy",
)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The origin of a result.

    Args:
        command: as it was typed.
        commit: of the source tree, ``unknown`` outside a clone.
        modified: whether the source tree held changes that were not committed.
        versions: of Python and of the libraries that change numbers.
        data: fingerprint of the data.
        host: name of the machine.
        device: what trained.
        started: local time with its zone, ISO 8601.
    """

    command: str
    commit: str
    modified: bool
    versions: dict[str, str]
    data: str
    host: str
    device: str
    started: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)

    def tags(self) -> dict[str, str]:
        """One flat name and text per fact, for an experiment log."""
        facts = {name: value for name, value in self.as_dict().items() if name != "versions"}
        return {name: str(value) for name, value in facts.items()} | {
            f"version.{library}": version for library, version in self.versions.items()
        }

    def write(self, path: Path) -> None:
        """Write as indented JSON."""
        path.write_text(json.dumps(self.as_dict(), indent=2) + "\n")


def collect(*, data: str, device: str = "cpu") -> Manifest:
    """Collect command, commit, versions and host. An unavailable fact is ``unknown``."""
    commit, modified = _commit()
    return Manifest(
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        commit=commit,
        modified=modified,
        versions={"python": platform.python_version()} | _versions(),
        data=data,
        host=platform.node(),
        device=device,
        started=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def _versions() -> dict[str, str]:
    found = {}
    for library in _LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found[library] = "unknown"
    return found


def _commit() -> tuple[str, bool]:
    source = Path(__file__).resolve().parent
    try:
        _git(
            "ls-files", "--error-unmatch", "manifest.py", cwd=source
        )  # else the clone around an installed package counts
        commit = _git("rev-parse", "HEAD", cwd=source)
        return commit, bool(_git("status", "--porcelain", "--untracked-files=no", cwd=source))
    except (OSError, subprocess.SubprocessError):
        return "unknown", False


def _git(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603, S607
    return done.stdout.strip()


def run_identity(config: TrainConfig, train: Split, validation: Split, prompts: EncodedPrompts) -> str:
    """Changes with everything that a run's weights depend on: configuration, prompts, tracks, labels and encoders."""
    facts = [METHOD_VERSION, config.model_dump_json(), prompts.name, prompts.grid.centres]
    facts += [[split.name, list(split.track_ids), sorted(split.encoders.items())] for split in (train, validation)]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for split in (train, validation):
        for array in (split.offsets, split.va, split.labelled):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
