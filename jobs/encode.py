"""Encode a data set into the feature store: each video once, whatever is killed in between."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT / "platform")  # this checkout, not an installed copy

from pydantic import Field

from affectgrid.cli import run
from affectgrid.distributed.encode.config import EncodeConfig


class Encode(EncodeConfig):
    """Encode every track that the store does not hold. Exit status 0: all; 1: some tracks are in quarantine."""

    data: str = Field("rendered", description="a folder in Aff-Wild2's layout, a folder of videos, or 'rendered'")
    dry_run: bool = Field(False, description="only say what is done and to do, how large it gets and how long it takes")
    store: str | None = Field(
        None, description="feature store: a folder or a URI such as s3://bucket/features; default: OUT/features"
    )
    out: Path = Field(ROOT / "outputs", description="folder of features, studies and the MLflow database")
    address: str | None = Field(None, description="Ray cluster to join; by default RAY_ADDRESS, else a private one")


def main(options: Encode) -> int:
    # here, not above: torch and Ray take seconds, and --help or a wrong option needs neither
    from affectgrid.data.features.store import FeatureStore
    from affectgrid.data.workspace import Workspace
    from affectgrid.distributed.cluster import connect
    from affectgrid.distributed.encode.run import encode, plan_encode
    from affectgrid.distributed.prepare import open_catalog
    from affectgrid.reporting.encoding import print_encode_report, print_plan, print_quarantine

    workspace = Workspace.open(options.out)
    store = FeatureStore(options.store or workspace.features)
    if not options.dry_run:
        store.require_writable()
    with connect(options.address):
        catalog = open_catalog(options.data, workspace)
        if options.dry_run:
            plan, lost = plan_encode(catalog, store.root, options)
            print_plan(plan)
            print_quarantine(lost)
            return 1 if lost else 0
        report = encode(catalog, store.root, options, show_plan=print_plan)
    print_encode_report(report, store)
    return 1 if report.quarantined else 0


if __name__ == "__main__":
    run(main, Encode)
