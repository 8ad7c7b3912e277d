"""Encode a data set into the feature store: each video once, whatever is killed in between."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT / "platform")  # this checkout, not an installed copy

from pydantic import Field

from affectgrid.cli import run
from affectgrid.data.workspace import Workspace
from affectgrid.distributed.cluster import connect
from affectgrid.distributed.encode import EncodeConfig, encode
from affectgrid.distributed.prepare import open_catalog
from affectgrid.reporting.encoding import print_encode_report


class Encode(EncodeConfig):
    """Encode every track that the store does not hold. Exit status 0: all; 1: some tracks are in quarantine."""

    data: str = Field("rendered", description="a folder in Aff-Wild2's layout, a folder of videos, or 'rendered'")
    out: Path = Field(ROOT / "outputs", description="folder of features, studies and the MLflow database")
    address: str | None = Field(None, description="Ray cluster to join; by default RAY_ADDRESS, else a private one")


def main(options: Encode) -> int:
    workspace = Workspace.open(options.out)
    with connect(options.address):
        report = encode(open_catalog(options.data, workspace), workspace.features, options)
    print_encode_report(report, workspace.features)
    return 1 if report.quarantined else 0


if __name__ == "__main__":
    run(main, Encode)
