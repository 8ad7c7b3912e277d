"""Where a result comes from."""

from __future__ import annotations

import json
import subprocess
import sys

import torch

from affectgrid.training import manifest


def test_the_commit_is_the_clone_s_own():
    found = manifest.collect(data="abc", device="cpu")
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    assert found.commit in {head, "unknown"}
    assert len(found.commit) == 40 or found.commit == "unknown"
    assert found.versions["torch"] == torch.__version__.split("+")[0] or found.versions["torch"] == torch.__version__
    assert found.data == "abc"


def test_outside_a_clone_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "__file__", str(tmp_path / "affectgrid" / "training" / "manifest.py"))
    (tmp_path / "affectgrid" / "training").mkdir(parents=True)
    assert manifest.collect(data="").commit == "unknown"


def test_a_clone_of_something_else_is_not_the_project_s_commit(tmp_path, monkeypatch):
    installed = tmp_path / "venv" / "affectgrid" / "training"
    installed.mkdir(parents=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", *identity, "-C", tmp_path, "commit", "-q", "--allow-empty", "-m", "other"], check=True)
    monkeypatch.setattr(manifest, "__file__", str(installed / "manifest.py"))
    assert manifest.collect(data="").commit == "unknown"


def test_a_manifest_is_flat_tags_and_readable_json(tmp_path):
    found = manifest.collect(data="abc")
    found.write(tmp_path / "manifest.json")
    assert json.loads((tmp_path / "manifest.json").read_text()) == found.as_dict()
    tags = found.tags()
    assert tags["version.python"] == sys.version.split()[0]
    assert all(isinstance(value, str) for value in tags.values())
