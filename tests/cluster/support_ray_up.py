"""Runs on the network that support_machines.sh makes: `ray up` twice, jobs, `ray down`. Prints what it saw as JSON.

python support_ray_up.py FOLDER CONFIG    FOLDER holds a copy of the project; Ray's commands run in it
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

HEAD, WORKER = "10.77.0.1", "10.77.0.2"
PROJECT, CONFIG = Path(sys.argv[1]), sys.argv[2]

# What a task on each node, and the driver, see of the environment.
_PROBE = """
import json, os, resource, ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

def seen():
    names = ("AFFECTGRID_OUT", "AFFECTGRID_CACHE", "MLFLOW_TRACKING_URI", "RAY_AUTH_MODE")
    return {name: os.environ.get(name) for name in names}

ray.init(log_to_driver=False)
task = ray.remote(num_cpus=0)(seen)
nodes = {node["NodeManagerAddress"]: On(node["NodeID"], False) for node in ray.nodes() if node["Alive"]}
on = {address: task.options(scheduling_strategy=where) for address, where in nodes.items()}
facts = {"driver": seen(), "cwd": os.getcwd()} | {ip: ray.get(one.remote()) for ip, one in on.items()}
print("PROBE", json.dumps(facts), flush=True)
"""

# One task on each node works until the file `finish` lies on that node's disk.
_LONG = """
import os, pathlib, time, ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

@ray.remote(num_cpus=0, max_retries=0)
def work():
    (pathlib.Path.home() / "working").touch()
    while not (pathlib.Path.home() / "finish").exists():
        time.sleep(0.2)
    return os.getpid()

ray.init(log_to_driver=False)
where = [On(node["NodeID"], False) for node in ray.nodes()]
print("LONG", ray.get([work.options(scheduling_strategy=one).remote() for one in where]), flush=True)
"""


def ray(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["ray", *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=300)
    output = done.stdout + done.stderr
    if check and done.returncode:
        raise SystemExit(f"ray {' '.join(arguments)} ended with {done.returncode}:\n{output}")
    return output


def on_head(command: str) -> str:
    """As docs/cluster.md has it: a command in the project's folder of the head, in its login shell."""
    return ray("exec", CONFIG, f"cd affectgrid && {command}")


def ssh(address: str, command: str) -> str:
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    key = os.environ["AG_KEYS"] + "/client"
    done = subprocess.run(["ssh", "-i", key, *options, f"ubuntu@{address}", command], capture_output=True, text=True)
    return done.stdout.strip()


def wait(condition: Callable[[], object], timeout_s: float, what: str) -> float:
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > timeout_s:
            monitor = ssh(HEAD, "tail -n 40 /tmp/ray/session_latest/logs/monitor*; ~/affectgrid/.venv/bin/ray status")
            raise SystemExit(f"{monitor}\nnot within {timeout_s} s: {what}")
        time.sleep(1)
    return round(time.monotonic() - start, 1)


def raylets() -> dict[str, str]:
    return {address: ssh(address, "pgrep -x raylet") for address in (HEAD, WORKER)}


def timed(action: Callable[[], object]) -> float:
    start = time.monotonic()
    action()
    return round(time.monotonic() - start, 1)


def main() -> None:
    facts: dict[str, object] = {}
    (PROJECT / "jobs" / "probe.py").write_text(_PROBE)
    (PROJECT / "jobs" / "long.py").write_text(_LONG)
    facts["up_s"] = timed(lambda: ray("up", "-y", CONFIG))
    facts["worker_s"] = wait(lambda: ssh(WORKER, "pgrep -x raylet"), 120, "a raylet on the worker")
    wait(lambda: "2 local.cluster.node" in on_head("ray status"), 60, "two nodes in ray status")

    facts["literal"] = "--warm-start" in on_head("ray job submit -- python jobs/tune.py --help")
    probed = on_head("ray job submit -- python jobs/probe.py")
    facts["probe"] = json.loads(next(line for line in probed.splitlines() if "PROBE" in line).partition("PROBE ")[2])
    facts["without_token"] = ssh(HEAD, "curl -s -o /dev/null -w '%{http_code}' -X POST 127.0.0.1:8265/api/jobs/")

    on_head("ray job submit --no-wait --submission-id long -- python jobs/long.py")
    for address in (HEAD, WORKER):
        wait(lambda a=address: ssh(a, "ls ~/working"), 60, f"a task that works on {address}")
    before = raylets()
    # Changed code and one more setup command: the head and, through the autoscaler, the worker are set up anew.
    (PROJECT / "jobs" / "added.py").write_text("# new\n")
    config = yaml.safe_load((PROJECT / CONFIG).read_text())
    config["setup_commands"].append("touch ~/second")
    (PROJECT / CONFIG).write_text(yaml.safe_dump(config))
    facts["again_s"] = timed(lambda: ray("up", "-y", CONFIG))
    facts["new_code_on_head"] = ssh(HEAD, "ls ~/affectgrid/jobs/added.py ~/second") != ""
    applied = f"grep -h '{WORKER}: Applied config' /tmp/ray/session_latest/logs/monitor.* | sort -u | wc -l"
    wait(lambda: int(ssh(HEAD, applied)) >= 2 and ssh(WORKER, "ls ~/second"), 120, "a second set-up of the worker")
    facts["same_raylets"] = raylets() == before
    for address in (HEAD, WORKER):
        ssh(address, "touch ~/finish")
    wait(lambda: "LONG [" in on_head("ray job logs long"), 60, on_head("ray job status long; ray job logs long"))
    facts["long_job"] = "succeeded" in on_head("sleep 2; ray job status long").lower()

    facts["down_s"] = timed(lambda: ray("down", "-y", CONFIG))
    facts["head_after_down"] = ssh(HEAD, "pgrep -x raylet; pgrep -x gcs_server")
    facts["worker_gone_s"] = wait(lambda: not ssh(WORKER, "pgrep -x raylet"), 120, "the worker's Ray ends")
    print("FACTS " + json.dumps(facts))


main()
