"""A database that was moved or copied together with its artefacts."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path

from affectgrid.tracking import Tracker, open_tracker, relocation
from affectgrid.tracking.relocation import follow_artifacts

SOURCE = Path(relocation.__file__).parents[2]


def logged(folder: Path, text: str = "figure") -> Tracker:
    folder.mkdir()
    (folder / "figure.txt").write_text(text)
    tracker = open_tracker(f"sqlite:///{folder}/mlflow.db")
    tracker.study("study", {}, {}).artifact(folder / "figure.txt", "figures")
    return tracker


def read(folder: Path, run_id: str) -> str:
    """By the address itself: MLflow remembers in each process where the artefacts of a run were."""
    address = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db").get_run(run_id).info.artifact_uri
    return Path(local_file_uri_to_path(address), "figures", "figure.txt").read_text()


def add(folder: Path) -> None:
    """In another process, as a later session is."""
    code = f"""from pathlib import Path; from affectgrid.tracking import open_tracker
folder = Path({str(folder)!r})
open_tracker(f"sqlite:///{{folder}}/mlflow.db").study("study", {{}}, {{}}).artifact(folder / "figure.txt", "more")"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=SOURCE)


@pytest.mark.parametrize("way", ["moved", "copied"])
def test_artefacts_are_found_and_more_are_added_where_the_folder_is_now(tmp_path: Path, way: str) -> None:
    run_id = logged(tmp_path / "first").find("study").run_id
    place = tmp_path / "100%_x y"
    (shutil.move if way == "moved" else shutil.copytree)(tmp_path / "first", place)
    (place / "mlartifacts" / run_id / "artifacts" / "figures" / "figure.txt").write_text("the one of this folder")
    add(place)
    assert read(place, run_id) == "the one of this folder"
    assert (place / "mlartifacts" / run_id / "artifacts" / "more" / "figure.txt").exists()
    assert (tmp_path / "first").exists() == (way == "copied")
    if way == "copied":
        assert read(tmp_path / "first", run_id) == "figure"


def test_the_list_of_links_puts_the_addresses_right_too(tmp_path: Path) -> None:
    run_id = logged(tmp_path / "first").find("study").run_id
    shutil.move(tmp_path / "first", tmp_path / "second")
    uri = f"sqlite:///{tmp_path}/second/mlflow.db"
    command = [sys.executable, "-m", "affectgrid.tracking.links", uri]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, cwd=SOURCE)
    assert done.stdout.startswith("study: http://127.0.0.1:5000/#/experiments/1/")
    assert read(tmp_path / "second", run_id) == "figure"


def test_addresses_stay_where_the_new_folder_has_none_of_the_files(tmp_path: Path) -> None:
    tracker = logged(tmp_path / "first")
    (tmp_path / "else" / "mlartifacts").mkdir(parents=True)
    follow_artifacts(tmp_path / "first" / "mlflow.db", tmp_path / "else" / "mlartifacts")
    assert read(tmp_path / "first", tracker.find("study").run_id) == "figure"


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mlartifacts").mkdir()
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        connection.execute("CREATE TABLE experiments (artifact_location TEXT)")
        connection.execute("INSERT INTO experiments VALUES ('file:///old/mlartifacts')")
    follow_artifacts(tmp_path / "mlflow.db", tmp_path / "mlartifacts")
    assert connection.execute("SELECT * FROM experiments").fetchall() == [("file:///old/mlartifacts",)]
