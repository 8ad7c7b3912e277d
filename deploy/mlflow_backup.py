"""Back up MLflow's PostgreSQL database to where the outputs go, and restore it.

    python deploy/mlflow_backup.py save              one dump, named by the time (UTC)
    python deploy/mlflow_backup.py list
    python deploy/mlflow_backup.py restore [NAME]    into an empty database; by default the newest dump

Reads MLFLOW_BACKEND_STORE_URI and AFFECTGRID_OUT, as the server's unit does. Artefacts are not in the dump: the server
keeps them under AFFECTGRID_OUT/mlflow-artifacts, and the bucket's own versioning is their back-up.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pyarrow import fs


def backups() -> tuple[fs.FileSystem, str]:
    """The file system and the folder of the dumps."""
    place = os.environ["AFFECTGRID_OUT"].rstrip("/") + "/mlflow-backups"
    if "://" in place:
        return fs.FileSystem.from_uri(place)
    return fs.LocalFileSystem(), place


def names() -> list[str]:
    """All dumps, the oldest first."""
    files, folder = backups()
    found = files.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    return sorted(one.base_name for one in found if one.is_file and one.base_name.endswith(".dump"))


def save(uri: str) -> str:
    """Dump the database, look into the dump, and only then give it its final name. Returns the name."""
    files, folder = backups()
    name = time.strftime("mlflow-%Y%m%dT%H%M%SZ.dump", time.gmtime())
    with tempfile.TemporaryDirectory() as scratch:
        dump = Path(scratch) / name
        subprocess.run(["pg_dump", "--format=custom", f"--file={dump}", uri], check=True)
        subprocess.run(["pg_restore", "--list", dump], check=True, stdout=subprocess.DEVNULL)
        files.create_dir(folder, recursive=True)
        with dump.open("rb") as source, files.open_output_stream(f"{folder}/{name}.part") as target:
            shutil.copyfileobj(source, target)
        files.move(f"{folder}/{name}.part", f"{folder}/{name}")
    return name


def restore(uri: str, name: str) -> None:
    """Load a dump into an empty database, whole or not at all; objects belong to whoever restores."""
    files, folder = backups()
    with tempfile.TemporaryDirectory() as scratch:
        dump = Path(scratch) / name
        with files.open_input_stream(f"{folder}/{name}") as source, dump.open("wb") as target:
            shutil.copyfileobj(source, target)
        command = ["pg_restore", "--no-owner", "--single-transaction", "--exit-on-error", f"--dbname={uri}", str(dump)]
        subprocess.run(command, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["save", "list", "restore"])
    parser.add_argument("name", nargs="?", help="the dump to restore")
    options = parser.parse_args()
    uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
    if options.action == "save":
        print(save(uri))
    elif options.action == "list":
        print("\n".join(names()))
    else:
        name = options.name or next(reversed(names()), None)
        if name is None:
            print(f"no dump under {os.environ['AFFECTGRID_OUT']}/mlflow-backups", file=sys.stderr)
            return 2
        restore(uri, name)
        print(f"restored {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
