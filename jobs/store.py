"""Look after the feature store: read everything back, or list and remove what nothing refers to."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from tyro.conf import Positional

from affectgrid.cli import OutOption, run
from affectgrid.data.features.references import unused
from affectgrid.data.features.store import FeatureStore
from affectgrid.data.workspace import Workspace
from affectgrid.distributed.options import StoreOption
from affectgrid.reporting.storage import print_damage, print_unused


class Store(OutOption, StoreOption):
    """verify: read every file back; exit status 2 names what is damaged. gc: list features that no result refers to."""

    action: Positional[Literal["verify", "gc"]] = Field(description="what to do")
    delete: bool = Field(False, description="gc: remove what it lists; verify: remove what is damaged")


def main(options: Store) -> int:
    workspace = Workspace.open(options.out)
    store = FeatureStore(options.store or workspace.features)
    if options.action == "verify":
        damaged = store.verify()
        if options.delete:
            store.remove_damaged(damaged)
        print_damage(damaged, store, removed=options.delete)
        return 2 if damaged else 0
    found = unused(store, workspace.root)
    if options.delete:
        for item in found:
            store.remove_fingerprint(item.stream, item.fingerprint)
    print_unused(found, store, removed=options.delete)
    return 0


if __name__ == "__main__":
    run(main, Store)
