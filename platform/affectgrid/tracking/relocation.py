"""Addresses of artefacts in a database in a file: MLflow stores them whole, so they go wrong when the folder moves."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlsplit

ARTIFACTS = "mlartifacts"  # the folder beside a database
_log = logging.getLogger(__name__)
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def follow_artifacts(database: Path, artifacts: Path) -> None:
    """Let the addresses in a database point into `artifacts`, where its files are now, moved or copied with it.

    An address is changed where it leads into another folder of the same name, and a run of that folder has its files
    under `artifacts`. Nothing happens without a database, or to one that is not MLflow's. Raises sqlite3.Error where
    the database cannot be written.
    """
    if not (database.is_file() and artifacts.is_dir()):
        return
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        if not _is_mlflows(connection):
            return
        for old in _other_roots(connection, artifacts):
            if _has_files(connection, old, artifacts):
                _log.warning("artefacts moved from %s to %s: their addresses follow", old, artifacts)
                for table, column in _COLUMNS:
                    _replace(connection, table, column, old, artifacts.as_uri())


def _is_mlflows(connection: sqlite3.Connection) -> bool:
    found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return found >= {table for table, _ in _COLUMNS}


def _other_roots(connection: sqlite3.Connection, artifacts: Path) -> list[str]:
    """Addresses of experiments that are other folders of this name."""
    rows = connection.execute(
        "SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE 'file:%'"
    )
    other = [root for (root,) in rows if root != artifacts.as_uri()]
    return [root for root in other if Path(unquote(urlsplit(root).path)).name == artifacts.name]


def _has_files(connection: sqlite3.Connection, old: str, artifacts: Path) -> bool:
    rows = connection.execute("SELECT artifact_uri FROM runs WHERE substr(artifact_uri, 1, ?) = ?", (len(old), old))
    return any((artifacts / unquote(uri[len(old) :]).lstrip("/")).exists() for (uri,) in rows)


def _replace(connection: sqlite3.Connection, table: str, column: str, old: str, new: str) -> None:
    begins = f"{column} = :old OR substr({column}, 1, length(:old) + 1) = :old || '/'"
    query = f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) WHERE {begins}"  # noqa: S608
    connection.execute(query, {"old": old, "new": new})
