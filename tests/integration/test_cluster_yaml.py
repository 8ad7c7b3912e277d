"""cluster.yaml says what Ray's own validation accepts, what EC2 (moto's) gets from it, and what a job needs."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

SSH_FROM = "198.51.100.7/32"


@pytest.fixture
def text(repository: Path) -> str:
    return (repository / "cluster.yaml").read_text()


@pytest.fixture
def config(text: str) -> dict[str, Any]:
    return yaml.safe_load(text)


def test_ray_accepts_it(config: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))


def test_ray_refuses_an_unknown_key(config: dict[str, Any]) -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    config["hed_node_type"] = config["head_node_type"]
    with pytest.raises(ValidationError, match="hed_node_type"):
        validate_config(prepare_config(config))


def test_what_must_be_filled_in_stands_in_the_marked_block(text: str) -> None:
    block = text.partition("# ---- Change these")[2].partition("# ---- Nothing below")[0]
    assert text.count("CHANGE-ME") == block.count("CHANGE-ME") == 4  # bucket, two images, security group
    assert "0.0.0.0/0" not in text


def test_the_environment_of_every_node_comes_from_one_file(config: dict[str, Any], tmp_path: Path) -> None:
    (command,) = config["initialization_commands"]
    subprocess.run(["bash", "-c", f"({command})"], env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, check=True)
    written = tmp_path / ".affectgrid.env"
    assert written.stat().st_mode & 0o077 == 0
    values = dict(line.split("=", 1) for line in written.read_text().splitlines())
    assert values == {
        "AFFECTGRID_OUT": "s3://CHANGE-ME/affectgrid",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000",
        "AFFECTGRID_CACHE": "/var/tmp/affectgrid",
        "RAY_AUTH_MODE": "token",
    }


def test_a_bucket_that_was_not_filled_in_ends_the_set_up_with_the_reason(repository: Path, tmp_path: Path) -> None:
    (tmp_path / ".affectgrid.env").write_text("AFFECTGRID_OUT=s3://CHANGE-ME/affectgrid\n")
    done = subprocess.run(
        [repository / "deploy" / "setup_node.sh"],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "set AFFECTGRID_OUT" in done.stderr


def test_ray_starts_through_the_script_that_leaves_a_running_ray_alone(config: dict[str, Any]) -> None:
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        (start,) = commands
        assert start.startswith("~/affectgrid/deploy/ray_once.sh ray start ")


def test_the_mounts_hold_what_the_jobs_and_the_install_need(config: dict[str, Any], repository: Path) -> None:
    mounts = {place: Path(source).expanduser() for place, source in config["file_mounts"].items()}
    project = {place.removeprefix("~/affectgrid/"): source for place, source in mounts.items() if "affectgrid" in place}
    assert all((repository / source).exists() and str(source) == place for place, source in project.items())
    needed = {"platform", "jobs", "search_spaces", "deploy", "Makefile", "pyproject.toml", "constraints.txt"}
    assert needed <= set(project)
    assert not {".", ".git", ".venv", "outputs"} & set(project)  # Ray would hash all of it at each `ray up`


def test_there_are_cpu_and_gpu_workers_that_may_vanish_when_idle(config: dict[str, Any]) -> None:
    kinds = config["available_node_types"]
    workers = [kind for name, kind in kinds.items() if name != config["head_node_type"]]
    assert any("GPU" in kind["resources"] for kind in workers)
    assert any("GPU" not in kind["resources"] for kind in workers)
    assert all(kind["min_workers"] == 0 for kind in workers)
    assert config["max_workers"] == sum(kind["max_workers"] for kind in workers) + 1


@pytest.fixture
def ec2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A local EC2 and IAM by moto; the key that Ray makes goes to a home of its own."""
    pytest.importorskip("moto.server")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "HOME": str(tmp_path),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    yield
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    server.stop()


# In a process of its own: Ray caches EC2 clients in the module.
_LAUNCH = """
import json, sys, yaml
import boto3
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config
from ray.autoscaler.tags import TAG_RAY_NODE_KIND

config = yaml.safe_load(sys.stdin)
ec2 = boto3.client("ec2", region_name=config["provider"]["region"])
before = ec2.describe_security_groups()["SecurityGroups"]
config = AWSNodeProvider.bootstrap_config(prepare_config(config))
provider = AWSNodeProvider(config["provider"], config["cluster_name"])
made = {}
for name, kind in config["available_node_types"].items():
    (node,) = provider.create_node(kind["node_config"], {TAG_RAY_NODE_KIND: name}, 1)
    made[name] = ec2.describe_instances(InstanceIds=[node])["Reservations"][0]["Instances"][0]
after = ec2.describe_security_groups()["SecurityGroups"]
print(json.dumps({"nodes": made, "before": before, "after": after}, default=str))
"""


def _launch(config: dict[str, Any]) -> dict[str, Any]:
    """What EC2 has after a node of each kind was started by Ray's own provider."""
    done = subprocess.run(
        [sys.executable, "-c", _LAUNCH], input=yaml.safe_dump(config), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def prepared(ec2: None, config: dict[str, Any], repository: Path) -> dict[str, Any]:
    """cluster.yaml with the values that aws_prepare.sh prints."""
    if not shutil.which("aws"):
        pytest.skip("the AWS CLI is not here: apt-get install awscli")
    script = repository / "deploy" / "aws_prepare.sh"
    region = config["provider"]["region"]
    for _ in range(2):  # it may be run again
        done = subprocess.run([script, region, "my-bucket", SSH_FROM], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    group = next(line.split()[-1] for line in done.stdout.splitlines() if "SecurityGroupIds" in line)
    for name, kind in config["available_node_types"].items():
        kind["node_config"] |= {"SecurityGroupIds": [group], "ImageId": "ami-0gpu" if "gpu" in name else "ami-0"}
    return config


def test_ec2_gets_a_profile_an_image_and_tags_on_every_node_and_one_open_port(prepared: dict[str, Any]) -> None:
    made = _launch(prepared)
    profiles = {name: node["IamInstanceProfile"]["Arn"].rpartition("/")[2] for name, node in made["nodes"].items()}
    assert profiles == {"head": "affectgrid-head", "cpu_worker": "affectgrid-node", "gpu_worker": "affectgrid-node"}
    images = {name: node["ImageId"] for name, node in made["nodes"].items()}
    assert images == {"head": "ami-0", "cpu_worker": "ami-0", "gpu_worker": "ami-0gpu"}
    for node in made["nodes"].values():  # what head-policy.json allows is tied to this tag
        assert {"Key": "ray-cluster-name", "Value": "affectgrid"} in node["Tags"]
        assert [group["GroupName"] for group in node["SecurityGroups"]] == ["affectgrid"]
    assert made["after"] == made["before"]  # Ray opened nothing of its own
    (group,) = (one for one in made["after"] if one["GroupName"] == "affectgrid")
    outside = [rule for rule in group["IpPermissions"] if rule["IpRanges"]]
    assert [(one["FromPort"], one["ToPort"], one["IpRanges"]) for one in outside] == [(22, 22, [{"CidrIp": SSH_FROM}])]


@pytest.mark.long
def test_a_group_that_ray_makes_would_be_open_to_the_internet(prepared: dict[str, Any]) -> None:
    """Why cluster.yaml names a group: when this fails, Ray has fixed it, and provider.security_group will do."""
    rule = {"FromPort": 22, "ToPort": 22, "IpProtocol": "tcp", "IpRanges": [{"CidrIp": SSH_FROM}]}
    prepared["provider"]["security_group"] = {"GroupName": "by-ray", "IpPermissions": [rule]}
    for kind in prepared["available_node_types"].values():
        del kind["node_config"]["SecurityGroupIds"]
    assert "0.0.0.0/0" in json.dumps([one for one in _launch(prepared)["after"] if one["GroupName"] == "by-ray"])


@pytest.mark.parametrize("ssh_range", ["0.0.0.0/0", "198.51.100.7"])
def test_a_range_that_is_the_internet_or_no_range_is_refused(ec2: None, repository: Path, ssh_range: str) -> None:
    if ssh_range != "0.0.0.0/0" and not shutil.which("aws"):
        pytest.skip("the AWS CLI is not here: apt-get install awscli")
    script = repository / "deploy" / "aws_prepare.sh"
    done = subprocess.run([script, "eu-central-1", "my-bucket", ssh_range], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert ssh_range in done.stderr


def test_the_policies_allow_no_more_than_the_cluster_needs(config: dict[str, Any], repository: Path) -> None:
    folder = repository / "docs" / "cluster" / "aws"
    policies = {name: json.loads((folder / f"{name}-policy.json").read_text()) for name in ("bucket", "head")}
    for policy in policies.values():
        for statement in policy["Statement"]:
            actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
            assert not any("*" in action for action in actions)
            assert statement["Resource"] != "*" or all(action.startswith("ec2:Describe") for action in actions)
            for condition in statement.get("Condition", {}).values():
                tag = [value for key, value in condition.items() if key.endswith("/ray-cluster-name")]
                assert tag in ([], [config["cluster_name"]])
    prefix = shlex.split(config["initialization_commands"][0])
    place = next(word for word in prefix if word.startswith("AFFECTGRID_OUT=")).rpartition("CHANGE-ME")[2]
    assert f"arn:aws:s3:::BUCKET{place}/*" in [one["Resource"] for one in policies["bucket"]["Statement"]]
