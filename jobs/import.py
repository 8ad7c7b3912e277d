"""Import features that another program made, as a stream that models can read: landmarks, action units, another face
encoder, predictions of another model."""

from __future__ import annotations

from pydantic import Field

from affectgrid.cli import OutOption, run
from affectgrid.data.imports.files import ImportFormat
from affectgrid.distributed.options import CatalogOptions, StoreOption, open_catalog


class Import(OutOption, StoreOption, ImportFormat):
    """Bring .npy, .npz, .csv or .parquet files, one per track, into the store. Exit status 1: some were left out."""

    stream: str = Field(description="name of the stream: what model.streams will call it")
    files: str = Field(description="the folder of the files, or a pattern in quotes; a file is called after its track")
    source: str = Field(min_length=1, description="what made them, e.g. 'OpenFace 2.2'; kept with the features")
    data: str | None = Field(None, description="the data set: files that are none of its tracks' are left out and told")
    format: str = Field("auto", description="of the data set, as validate takes it")


def main(options: Import) -> int:
    # here, not above: torch takes seconds, and --help or a wrong option does not need it
    from affectgrid.data.features.store import FeatureStore
    from affectgrid.data.imports.stream import find_files, import_stream
    from affectgrid.data.workspace import Workspace
    from affectgrid.reporting.storage import print_import

    workspace = Workspace.open(options.out)
    store = FeatureStore(options.store or workspace.features)
    store.require_writable()
    files = find_files(options.files)
    tracks = None
    if options.data is not None:
        catalog = open_catalog(CatalogOptions(data=options.data, format=options.format), workspace, labels="optional")
        tracks = {track.id for track in catalog.tracks}
    report = import_stream(store, options.stream, files, options.source, options, tracks)
    print_import(report, store)
    return 1 if report.problems else 0


if __name__ == "__main__":
    run(main, Import)
