"""libFuzzer on one reader: `fuzz_driver.py READER CORPUS SECONDS`; what it finds leaves a file `crash-...` behind.

CORPUS holds the inputs to begin with, and takes those that reach new code.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

from affectgrid.errors import AffectGridError

FOLDER = Path(tempfile.mkdtemp())
Read = Callable[[], object]


def labels(path: Path) -> Read:
    from affectgrid.data.annotations import LabelFile, read_annotation

    return lambda: read_annotation(LabelFile(path, "mask"))


def tracks(path: Path) -> Read:
    from affectgrid.data.catalog import Catalog, Track

    catalog = Catalog(FOLDER, (Track("a", "test", None, None, None),))
    return lambda: catalog.only([path])


def template(path: Path) -> Read:
    import numpy as np

    from affectgrid.data.export import write_submission

    return lambda: write_submission(FOLDER / "out", path, {"a": np.zeros((2, 2))}, fill="hold")


def prompts(path: Path) -> Read:
    from affectgrid.data.prompts import load_prompt_set

    return lambda: load_prompt_set(path)


def space(path: Path) -> Read:
    from affectgrid.search.space.reading import load_space

    return lambda: load_space(path)


def features(path: Path) -> Read:
    from affectgrid.data.imports.files import ImportFormat, read_feature_file

    return lambda: read_feature_file(path, ImportFormat())


def stored(path: Path) -> Read:
    from affectgrid.data.features.store import FeatureStore

    store = FeatureStore(FOLDER)
    return lambda: store.read("visual", "0123", path.stem)


READERS: dict[str, tuple[str, Callable[[Path], Read]]] = {
    "labels": ("a.txt", labels),
    "tracks": ("a.txt", tracks),
    "template": ("a.txt", template),
    "prompts": ("a.yaml", prompts),
    "space": ("a.yaml", space),
    "npy": ("a.npy", features),
    "npz": ("a.npz", features),
    "csv": ("a.csv", features),
    "parquet": ("a.parquet", features),
    "stored": ("visual/0123/a.parquet", stored),
}


def main() -> None:
    """Fuzz until the time is up, or an exception that is no coded error leaves the reader."""
    reader, corpus, seconds = sys.argv[1:]
    name, make = READERS[reader]
    path = FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with atheris.instrument_imports(include=["affectgrid", "yaml"]):
        read = make(path)

    def one(data: bytes) -> None:
        path.write_bytes(data)
        try:
            read()
        except AffectGridError as error:
            str(error).encode()

    limits = [
        f"-max_total_time={seconds}",
        "-timeout=20",
        "-rss_limit_mb=4096",
        "-max_len=4096",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], corpus, *limits], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
