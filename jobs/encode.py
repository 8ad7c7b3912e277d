"""Encode a data set into the feature store: each video once, whatever is killed in between."""

from __future__ import annotations

from pydantic import Field

from affectgrid.cli import JobOptions, run
from affectgrid.distributed.encode.config import EncodeConfig
from affectgrid.distributed.options import RENDERED, CatalogOptions, StoreOption, open_catalog, tell_unlabelled


class Encode(JobOptions, StoreOption, CatalogOptions, EncodeConfig):
    """Encode every track that the store does not hold. Exit status 0: all; 1: some tracks are in quarantine."""

    data: str = Field(RENDERED, description="a data set's folder or URI, a folder of videos, or 'rendered'")
    dry_run: bool = Field(False, description="only say what is done and to do, how large it gets and how long it takes")


def main(options: Encode) -> int:
    # here, not above: torch and Ray take seconds, and --help or a wrong option needs neither
    from affectgrid.data.features.store import FeatureStore
    from affectgrid.distributed.encode.run import encode, plan_encode
    from affectgrid.distributed.session import connected
    from affectgrid.reporting.encoding import print_encode_report, print_plan, print_quarantine

    if options.store and not options.dry_run:
        FeatureStore(options.store).require_writable()  # before Ray starts
    with connected(options.out, options.address) as workspace:
        store = FeatureStore(options.store or workspace.features)
        catalog = open_catalog(options, workspace, labels="expected")
        tell_unlabelled(catalog)
        if options.dry_run:
            plan, lost = plan_encode(catalog, store.root, options)
            print_plan(plan, hop_s=options.audio.hop_s)
            print_quarantine(lost)
            return 1 if lost else 0
        report = encode(catalog, store.root, options, show_plan=print_plan)
    print_encode_report(report, store)
    return 1 if report.quarantined else 0


if __name__ == "__main__":
    run(main, Encode)
