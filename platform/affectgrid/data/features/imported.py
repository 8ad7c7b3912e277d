"""Streams whose features were made elsewhere, as the store knows them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from affectgrid.data.features.sources import load_sources
from affectgrid.data.features.store import FeatureStore
from affectgrid.errors import ConfigError, Problem, nearest

ENCODED = ("visual", "audio")  # the streams that this project encodes
_SUFFIX = "_stream"


@dataclasses.dataclass(frozen=True)
class ImportedStream:
    """One stream under one name; a name holds features of one source.

    Args:
        name: what configurations call it.
        fingerprint: its folder in the store.
        source: what made the features, in the importer's words.
    """

    name: str
    fingerprint: str
    source: str

    def contents(self, store: FeatureStore, tracks: Iterable[str]) -> list[tuple[str, str]]:
        """The digest of what was imported for each of the tracks that it has, sorted."""
        records, wanted = load_sources(store, self.name, self.fingerprint), set(tracks)
        return sorted((track, record.source.digest) for track, record in records.items() if track in wanted)

    def as_encoders(self) -> dict[str, str]:
        """How splits and model packages name it among their encoders."""
        facts = {"imported": self.source, "fingerprint": self.fingerprint}
        return {self.name: self.source, f"{self.name}{_SUFFIX}": json.dumps(facts)}


def fingerprint_of(spec: Mapping[str, Any]) -> str:
    """16 hexadecimal digits over what makes two files features of the same kind: source, columns, clock."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]


def imported_streams(store: FeatureStore) -> tuple[ImportedStream, ...]:
    """Every imported stream of a store, by name."""
    found = []
    for name in store.streams():
        if name not in ENCODED:
            for fingerprint in store.fingerprints(name):
                spec = store.read_spec(name, fingerprint)
                if "imported" in spec:
                    found.append(ImportedStream(name, fingerprint, str(spec["imported"])))
    return tuple(found)


def find_imported(store: FeatureStore, names: Iterable[str]) -> tuple[ImportedStream, ...]:
    """Those of the streams in `names` that are not encoded here, sorted by name.

    Raises ConfigError (CFG-STREAM) for one that the store lacks.
    """
    wanted = sorted({name for name in names if name not in ENCODED})
    known = {stream.name: stream for stream in imported_streams(store)} if wanted else {}
    problems = [
        Problem(
            "CFG-STREAM",
            where="model.streams",
            found=f"{name!r}, which {store.address} does not hold",
            expected=f"one of {', '.join(sorted({*ENCODED, *known}))}",
            hint=nearest(name, (*ENCODED, *known))
            if known
            else f"import it: python jobs/import.py --stream {name} ...",
        )
        for name in wanted
        if name not in known
    ]
    if problems:
        raise ConfigError(*problems)
    return tuple(known[name] for name in wanted)


def imported_by(encoders: Mapping[str, str]) -> tuple[ImportedStream, ...]:
    """The imported streams of a split or a model package, which names them among its encoders."""
    found = []
    for key in sorted(encoders):
        name = key.removesuffix(_SUFFIX)
        if key.endswith(_SUFFIX) and name not in ENCODED:
            facts = json.loads(encoders[key])
            found.append(ImportedStream(name, facts["fingerprint"], facts["imported"]))
    return tuple(found)
