"""A node dies under an encode run: what is left of the cluster finishes the work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from affectgrid.data.catalog import read_aff_wild2
from affectgrid.data.features.store import FeatureStore
from support.processes import family


@pytest.mark.long
def test_a_node_that_dies_while_encoding_costs_nothing_but_time(
    rendered: Path, short_tmp: Path, tmp_path: Path
) -> None:
    with family(short_tmp) as group:
        out, _ = group.run("support.node_driver", [str(rendered), str(tmp_path)])
    told = json.loads(out.strip().splitlines()[-1])
    assert told["lost"]
    assert told["quarantined"] == 0
    store, ids = FeatureStore(tmp_path), [track.id for track in read_aff_wild2(rendered).tracks]
    for stream, fingerprint in told["folders"].items():
        assert list(store.tracks(stream, fingerprint)) == sorted(ids)
        assert store.unfinished(stream, fingerprint) == ()
    assert store.verify() == []
