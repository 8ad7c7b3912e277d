"""The variants under docs/cluster/, each checked by what its tool ships, where that is here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.support_config import SHARED_KEYS, missing_for_machines

HERE = Path(__file__).resolve().parent


def _load(repository: Path, name: str) -> dict[str, Any]:
    return yaml.safe_load((repository / "docs" / "cluster" / name).read_text())


@pytest.mark.parametrize("variant", ["gcp.yaml", "onprem.yaml"])
def test_ray_accepts_the_variant_and_it_runs_the_commands_of_cluster_yaml(repository: Path, variant: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    theirs = _load(repository, variant)
    ours = yaml.safe_load((repository / "cluster.yaml").read_text())
    assert {key: theirs[key] for key in SHARED_KEYS} == {key: ours[key] for key in SHARED_KEYS}
    theirs["provider"] |= {"worker_ips": ["10.77.0.2"]} if theirs["provider"]["type"] == "local" else {}
    validate_config(prepare_config(theirs))


# KubeRay


def _crd(kind: str) -> dict[str, Any]:
    """The schema of a kind's spec; unknown keys are refused, where Kubernetes would drop them silently."""
    folder = Path(os.environ.get("KUBERAY_CRDS", "/nonexistent"))
    file = folder / f"ray.io_{kind.lower()}s.yaml"
    if not file.exists():
        pytest.skip("KUBERAY_CRDS names no folder with helm-chart/kuberay-operator/crds of ray-project/kuberay")
    versions = yaml.safe_load(file.read_text())["spec"]["versions"]
    (stored,) = [one for one in versions if one["name"] == "v1"]
    return _closed(stored["schema"]["openAPIV3Schema"]["properties"]["spec"])


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


@pytest.mark.parametrize(("file", "kind"), [("kuberay-cluster.yaml", "RayCluster"), ("kuberay-job.yaml", "RayJob")])
def test_the_operators_own_schema_accepts_the_manifest(repository: Path, file: str, kind: str) -> None:
    from jsonschema import Draft202012Validator

    manifest = _load(repository, file)
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", kind)
    validator = Draft202012Validator(_crd(kind))
    assert [error.message for error in validator.iter_errors(manifest["spec"])] == []
    manifest["spec"]["rayVersoin"] = "2"
    assert [error.validator for error in validator.iter_errors(manifest["spec"])] == ["additionalProperties"]


def test_the_job_and_the_cluster_are_the_same_cluster_and_their_ray_is_ours(repository: Path) -> None:
    cluster = _load(repository, "kuberay-cluster.yaml")["spec"]
    assert _load(repository, "kuberay-job.yaml")["spec"]["rayClusterSpec"] == cluster
    assert f"ray=={cluster['rayVersion']}\n" in (repository / "constraints.txt").read_text()


def test_a_pod_that_asks_for_a_gpu_gets_the_image_that_can_use_one(repository: Path) -> None:
    groups = _load(repository, "kuberay-cluster.yaml")["spec"]["workerGroupSpecs"]
    containers = {group["groupName"]: group["template"]["spec"]["containers"][0] for group in groups}
    assert "nvidia.com/gpu" in containers["gpu"]["resources"]["limits"]
    assert "nvidia.com/gpu" not in containers["cpu"]["resources"]["limits"]
    assert containers["gpu"]["image"] != containers["cpu"]["image"]


# SkyPilot


@pytest.mark.long
def test_skypilot_parses_its_task(repository: Path) -> None:
    python = os.environ.get("SKYPILOT_PYTHON")
    if not python:
        pytest.skip("SKYPILOT_PYTHON names no interpreter with SkyPilot, which wants an environment of its own")
    script = "import sys, sky; t = sky.Task.from_yaml(sys.argv[1]); print('TASK', t.name, t.num_nodes)"
    command = [python, "-c", script, repository / "docs" / "cluster" / "skypilot.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "TASK affectgrid 2" in done.stdout


# Batch systems


@pytest.mark.long
@pytest.mark.skipif(missing_for_machines() is not None, reason=str(missing_for_machines()))
def test_two_nodes_of_a_batch_system_are_one_ray_and_the_commands_status_is_the_jobs(
    repository: Path, tmp_path: Path
) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "client"], check=True)
    environment = {**os.environ, "AG_KEYS": str(tmp_path), "AG_VENV": sys.prefix}
    command = ["bash", HERE / "support_machines.sh", "2", "bash", HERE / "support_batch.sh", repository]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    lines = done.stdout.splitlines()
    assert "NODES 2" in lines, done.stdout + done.stderr
    assert lines[-2:] == ["first 7", "second 0"]


def _missing_for_slurm() -> str | None:
    if os.geteuid() != 0:
        return "Slurm's daemons need root"
    missing = [name for name in ("slurmctld", "slurmd", "sbatch", "munged") if not shutil.which(name)]
    return f"not here: {', '.join(missing)} (apt-get install slurmctld slurmd slurm-client munge)" if missing else None


@pytest.mark.long
@pytest.mark.skipif(_missing_for_slurm() is not None, reason=str(_missing_for_slurm()))
def test_slurm_accepts_the_script_and_runs_it_on_one_node(repository: Path, short_tmp: Path) -> None:
    short_tmp.chmod(0o755)
    (short_tmp / "home").mkdir()
    script = (
        "sbatch --test-only --nodes=1 docs/cluster/slurm.sbatch && sbatch --wait --nodes=1 --export=ALL"
        f" --output={short_tmp}/job.log docs/cluster/slurm.sbatch --help"
    )
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    environment |= {"HOME": str(short_tmp / "home"), "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"}
    environment |= {"AFFECTGRID_RAY_PORT": "26379", "AFFECTGRID_OUT": str(short_tmp / "out")}
    token = "ray get-auth-token --generate >/dev/null && chmod 600 ~/.ray/auth_token"
    subprocess.run(["bash", "-c", token], env=environment, check=True)
    command = ["bash", HERE / "support_slurm.sh", short_tmp, repository, "bash", "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    log = short_tmp / "job.log"
    assert done.returncode == 0, done.stdout + done.stderr + (log.read_text() if log.exists() else "")
    assert "--warm-start" in log.read_text()
