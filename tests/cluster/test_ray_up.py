"""`ray up` and `ray down` of docs/cluster/onprem.yaml, whose commands are cluster.yaml's, on two machines over SSH."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.support_config import missing_for_machines

HERE = Path(__file__).resolve().parent


def _load(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


@pytest.fixture
def project(repository: Path, tmp_path: Path) -> Path:
    """A copy of what onprem.yaml mounts, with its placeholders filled in."""
    folder = tmp_path / "project"
    config = (repository / "docs" / "cluster" / "onprem.yaml").read_text()
    for source in _load(repository / "cluster.yaml")["file_mounts"].values():
        if (found := repository / source).is_dir():
            shutil.copytree(found, folder / source, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        elif not source.startswith("~"):
            shutil.copy2(found, folder / source)
    config = config.replace("head_ip: CHANGE-ME", "head_ip: 10.77.0.1")
    config = config.replace("worker_ips: [CHANGE-ME]", "worker_ips: [10.77.0.2]")
    config = config.replace("/CHANGE-ME/affectgrid", "/srv/affectgrid")
    config = config.replace("~/.ssh/id_ed25519", str(tmp_path / "keys" / "client"))
    filled = yaml.safe_load(config)
    assert "CHANGE-ME" not in yaml.safe_dump(filled)
    filled["head_setup_commands"] = []  # PostgreSQL and systemd: test_mlflow_server.py
    (folder / "onprem.yaml").write_text(yaml.safe_dump(filled))
    return folder


@pytest.mark.long
@pytest.mark.skipif(missing_for_machines() is not None, reason=str(missing_for_machines()))
def test_up_submit_up_again_and_down(project: Path, tmp_path: Path) -> None:
    keys, home = tmp_path / "keys", tmp_path / "home"
    keys.mkdir()
    home.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / "client"], check=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AFFECTGRID_"))}
    environment |= {
        "AG_KEYS": str(keys),
        "AG_VENV": sys.prefix,
        "HOME": str(home),
        "PATH": f"{sys.prefix}/bin:/usr/sbin:{os.environ['PATH']}",
        "RAY_UP_enable_autoscaler_v2": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    token = "ray get-auth-token --generate >/dev/null && chmod 600 ~/.ray/auth_token"
    subprocess.run(["bash", "-c", token], env=environment, check=True)
    done = subprocess.run(
        ["bash", HERE / "support_machines.sh", "2", sys.executable, HERE / "support_ray_up.py", project, "onprem.yaml"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-8000:]
    facts = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("FACTS ")).partition(" ")[2])
    print(json.dumps({name: value for name, value in facts.items() if name.endswith("_s")}))

    everywhere = {
        "AFFECTGRID_OUT": "/srv/affectgrid",
        "AFFECTGRID_CACHE": "/var/tmp/affectgrid",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000",
        "RAY_AUTH_MODE": "token",
    }
    probe = facts["probe"]
    assert probe.pop("cwd") == "/home/ubuntu/affectgrid"
    assert probe == {"driver": everywhere, "10.77.0.1": everywhere, "10.77.0.2": everywhere}
    assert facts["literal"], "ray job submit -- python jobs/tune.py found no jobs/ or no environment"
    assert facts["without_token"] == "401"
    assert facts["new_code_on_head"]
    assert facts["same_raylets"], "the second `ray up` restarted Ray on a node"
    assert facts["long_job"], "a job that ran during the second `ray up` did not end well"
    assert facts["head_after_down"] == ""
