"""Which fingerprints of a feature store the results under a folder were made from."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.streams import AudioStream, VisualStream
from affectgrid.settings import Settings

# What studies, runs, evaluations and model packages say of their data is JSON. Features and videos are no results.
_NO_RESULTS = frozenset({"features", "corpora", "data", "mapped"})
_NAMES = re.compile(r"\b[0-9a-f]{16}\b")
_STREAMS: dict[str, type[Settings]] = {"visual": VisualStream, "audio": AudioStream}


@dataclasses.dataclass(frozen=True)
class Unused:
    """A fingerprint that nothing refers to.

    Args:
        stream, fingerprint: where it lies in the store.
        model: its encoder; ``?`` where fingerprint.json is lost.
        tracks: finished ones.
        size_bytes: on disk.
    """

    stream: str
    fingerprint: str
    model: str
    tracks: int
    size_bytes: int


def write_data_record(root: Path, data: str, fingerprints: Mapping[str, str]) -> None:
    """Note under a workspace's root which features the data of a study or run, known by its hash, consist of."""
    path = root / "data" / f"{data}.json"
    content = json.dumps(dict(fingerprints), indent=1, sort_keys=True) + "\n"
    if path.exists() and path.read_text() == content:
        return
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f".{path.name}")
    partial.write_text(content)
    partial.replace(path)


def unused(store: FeatureStore, root: Path) -> list[Unused]:
    """Fingerprints that no study, run, evaluation or model package under `root` refers to, by stream and name.

    A result refers to features by their fingerprint, by the hash of its data, or by the settings of its streams. In
    doubt a fingerprint counts as used: settings are compared without the weights.
    """
    names, settings = _references(root)
    found = []
    for stream in store.streams():
        for fingerprint in store.fingerprints(stream):
            spec = store.read_spec(stream, fingerprint)
            own = spec.get("stream") or {}
            if fingerprint in names or _normal(stream, own) in settings:
                continue
            tracks, size = len(store.tracks(stream, fingerprint)), store.size_bytes(stream, fingerprint)
            found.append(Unused(stream, fingerprint, str(own.get("model", "?")), tracks, size))
    return found


def _references(root: Path) -> tuple[set[str], set[str]]:
    """Names that results mention, and the settings of streams that model packages hold."""
    names: set[str] = set()
    settings: set[str] = set()
    for path in _results(root):
        try:
            content = path.read_text()
            names.update(_NAMES.findall(content))
            settings.update(_stream_settings(json.loads(content)))
        except (OSError, ValueError):
            continue  # a file that is no JSON after all
    for data in [name for name in names if (root / "data" / f"{name}.json").is_file()]:
        names.update(_NAMES.findall((root / "data" / f"{data}.json").read_text()))
    return names, settings


def _results(root: Path) -> Iterator[Path]:
    folders = [entry for entry in root.iterdir() if entry.is_dir() and entry.name not in _NO_RESULTS]
    for folder in sorted(folders):
        yield from folder.rglob("*.json")


def _stream_settings(content: Any) -> Iterator[str]:
    if not isinstance(content, dict) or not isinstance(content.get("encoders"), dict):
        return
    for stream in _STREAMS:
        text = content["encoders"].get(f"{stream}_stream")
        if isinstance(text, str):
            yield _normal(stream, json.loads(text))


def _normal(stream: str, settings: Any) -> str:
    """Settings as text, without those that the store records otherwise; defaults where an older version knew none."""
    with contextlib.suppress(KeyError, ValidationError):
        settings = _STREAMS[stream].model_validate(settings).model_dump(mode="json", exclude={"precision", "landmarks"})
    return json.dumps(settings, sort_keys=True)
