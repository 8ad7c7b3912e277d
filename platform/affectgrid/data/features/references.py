"""The fingerprints of a feature store that the results under a folder were made from."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import ValidationError

from affectgrid.data.features.store import FeatureStore
from affectgrid.data.features.streams import BY_DIGEST, AudioStream, VisualStream
from affectgrid.settings import Settings
from affectgrid.storage import Storage

# Studies, runs, evaluations and model packages record their data as JSON. Features and videos are not results.
_NO_RESULTS = frozenset({"features", "corpora", "data", "mapped"})
_NUM_READS = 16  # read at a time: in a bucket each waits for the network
_NAMES = re.compile(r"\b[0-9a-f]{16}\b")
_STREAMS: dict[str, type[Settings]] = {"visual": VisualStream, "audio": AudioStream}


@dataclasses.dataclass(frozen=True)
class Unused:
    """A fingerprint that nothing refers to.

    Args:
        stream, fingerprint: its folder in the store.
        model: its encoder; ``?`` where fingerprint.json is lost.
        tracks: finished ones.
        size_bytes: on disk.
    """

    stream: str
    fingerprint: str
    model: str
    tracks: int
    size_bytes: int


def write_data_record(root: Storage, data: str, fingerprints: Mapping[str, str]) -> None:
    """Record under a workspace's root which features make up the data of a study or run, known by its hash."""
    name, content = f"data/{data}.json", json.dumps(dict(fingerprints), indent=1, sort_keys=True) + "\n"
    if not root.exists(name) or root.read(name) != content.encode():
        root.write(name, content)


def unused(store: FeatureStore, root: Storage) -> list[Unused]:
    """Fingerprints that no study, run, evaluation or model package under `root` refers to, by stream and name.

    Imported streams are never among them. A result refers to features by their fingerprint, by the hash of its data,
    or by the settings of its streams. In doubt a fingerprint counts as used: settings are compared without the weights.
    """
    names, settings = _references(root)
    found = []
    for stream in store.streams():
        for fingerprint in store.fingerprints(stream):
            spec = store.read_spec(stream, fingerprint)
            own = spec.get("stream") or {}
            if "imported" in spec:  # whoever made them may not be able to make them again
                continue
            if fingerprint in names or _normal(stream, own) in settings:
                continue
            tracks, size = len(store.tracks(stream, fingerprint)), store.size_bytes(stream, fingerprint)
            found.append(Unused(stream, fingerprint, str(own.get("model", "?")), tracks, size))
    return found


def _references(root: Storage) -> tuple[set[str], set[str]]:
    """Names that results mention, and the stream settings of model packages."""
    names: set[str] = set()
    settings: set[str] = set()
    with ThreadPoolExecutor(_NUM_READS) as pool:
        for content in pool.map(functools.partial(_read, root), _results(root)):
            with contextlib.suppress(ValueError):  # a file that is not JSON after all
                names.update(_NAMES.findall(content.decode()))
                settings.update(_stream_settings(json.loads(content)))
    for entry in root.list_files("data"):
        if entry.name.removesuffix(".json") in names:
            names.update(_NAMES.findall(root.read(f"data/{entry.name}").decode()))
    return names, settings


def _read(root: Storage, name: str) -> bytes:
    try:
        return root.read(name)
    except FileNotFoundError:  # removed meanwhile; any other error must stop the search for unused features
        return b""


def _results(root: Storage) -> Iterator[str]:
    for folder in root.list_folders():
        if folder not in _NO_RESULTS:
            files = root.list_files(folder, recursive=True)
            yield from (f"{folder}/{entry.name}" for entry in files if entry.name.endswith(".json"))


def _stream_settings(content: Any) -> Iterator[str]:
    if not isinstance(content, dict) or not isinstance(content.get("encoders"), dict):
        return
    for stream in _STREAMS:
        text = content["encoders"].get(f"{stream}_stream")
        if isinstance(text, str):
            yield _normal(stream, json.loads(text))


def _normal(stream: str, settings: Any) -> str:
    """Settings as text, without those that the store records elsewhere; missing ones have their defaults."""
    with contextlib.suppress(KeyError, ValidationError):
        settings = _STREAMS[stream].model_validate(settings).model_dump(mode="json", exclude={*BY_DIGEST, "landmarks"})
    return json.dumps(settings, sort_keys=True)
