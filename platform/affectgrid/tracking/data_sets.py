"""What a run learnt from and was scored on, as MLflow lists it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable

from affectgrid.data.splits.resident import Split


@dataclasses.dataclass(frozen=True)
class DataSet:
    """One split.

    Args:
        name: of the split.
        digest: changes with its tracks, its labels and everything that changes a feature.
        context: ``train`` or ``validation``.
        source, profile: JSON: how it was encoded, and how much there is.
    """

    name: str
    digest: str
    context: str
    source: str
    profile: str


def data_sets(splits: Iterable[Split], fingerprint: str) -> list[DataSet]:
    """Of these splits; `fingerprint` is that of the whole data."""
    found = []
    for split in splits:
        facts = json.dumps([fingerprint, split.name, split.track_ids])
        profile = {"tracks": split.num_tracks, "frames": split.num_frames, "labelled": int(split.labelled.sum())}
        digest = hashlib.sha256(facts.encode()).hexdigest()[:12]
        source = json.dumps({"fingerprint": fingerprint, **split.encoders})
        found.append(DataSet(split.name, digest, split.name, source, json.dumps(profile)))
    return found
