"""Checks before any work: every node can reach the place for results, and can use the GPU that it announces.

Nodes that join later are checked by their first task: see `require_place` and `device`.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from affectgrid.errors import ConfigError, Problem
from affectgrid.storage import Storage

_log = logging.getLogger(__name__)
NODE_FAULTS = frozenset({"CFG-SHARED", "CFG-CUDA"})  # faults of a node that every trial there would meet again
_ANSWER_WITHIN_S = 10.0
_REMEDIES = (
    "give --out (or AFFECTGRID_OUT) a bucket such as s3://bucket/x, or a folder on a file system that all nodes mount"
)


def check_nodes(place: Storage, *, reads: Sequence[Path] = ()) -> None:
    """Ask every node of the cluster that this process is connected to.

    A nonce is written into a folder, and each node must read it; `reads` are folders that each must see. Raises
    ConfigError: CFG-SHARED with the nodes that do not, CFG-CUDA with those whose GPU is not to be used. A node that
    does not answer within 10 s is named in a warning, and is checked again when work reaches it.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2 and not any(node["Resources"].get("GPU") for node in nodes):
        return
    nonce = f".nonce-{uuid.uuid4().hex}"
    path = None
    if place.path is not None:
        place.write(nonce, nonce)
        path = place.path / nonce
    try:
        _raise_for(_answers(nodes, path, reads), place)
    finally:
        if path is not None:
            path.unlink(missing_ok=True)


def require_place(name: str, place: Storage) -> None:
    """Raises ConfigError (CFG-SHARED) where this node does not see a file that the driver wrote before any work."""
    if place.is_local and not place.exists(name):
        raise ConfigError(not_shared([node_name()], place.show(name)))


def device() -> str:
    """``cuda`` or ``cpu``, for this task. Raises ConfigError (CFG-CUDA) for a GPU of Ray's that torch cannot use."""
    import torch  # not above: a check of folders starts sooner without it

    if torch.cuda.is_available():
        return "cuda"
    if ray.is_initialized() and ray.get_runtime_context().get_accelerator_ids().get("GPU"):
        raise ConfigError(_no_cuda([node_name()]))
    return "cpu"


def node_name() -> str:
    """This node's address and host name, as an engineer would look for it."""
    import platform

    address = ray.util.get_node_ip_address() if ray.is_initialized() else "this machine"
    return f"{address} ({platform.node()})"


def _answers(nodes: Sequence[dict[str, Any]], nonce: Path | None, reads: Sequence[Path]) -> list[tuple[str, list[str]]]:
    """The name of each node that answered, and its faults."""
    remote = ray.remote(num_cpus=0, max_retries=0)(_look)
    asked = {}
    for node in nodes:
        strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        gpu = bool(node["Resources"].get("GPU"))
        asked[remote.options(scheduling_strategy=strategy).remote(nonce, list(reads), gpu)] = node
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_WITHIN_S)
    for each in late:
        _log.warning("node %s did not answer within %.0f s", asked[each]["NodeManagerAddress"], _ANSWER_WITHIN_S)
    answers = []
    for each in ready:
        try:
            answers.append(ray.get(each))
        except ray.exceptions.RayError as error:  # it went away
            _log.warning("node %s could not be asked: %s", asked[each]["NodeManagerAddress"], error)
    return answers


def _look(nonce: Path | None, reads: list[Path], gpu: bool) -> tuple[str, list[str]]:
    """On a node: the folders that it cannot see, and ``cuda`` where a GPU was announced that torch cannot use."""
    wrong = [str(path.parent if path == nonce else path) for path in filter(None, [nonce, *reads]) if not path.exists()]
    if gpu:
        import torch

        wrong += [] if torch.cuda.is_available() else ["cuda"]
    return node_name(), wrong


def _raise_for(answers: list[tuple[str, list[str]]], place: Storage) -> None:
    problems = []
    unseen = sorted({path for _, wrong in answers for path in wrong if path != "cuda"})
    for path in unseen:
        problems.append(not_shared(sorted(name for name, wrong in answers if path in wrong), path))
    without = sorted(name for name, wrong in answers if "cuda" in wrong)
    if without:
        problems.append(_no_cuda(without))
    if problems:
        raise ConfigError(*problems)


def not_shared(nodes: list[str], path: str) -> Problem:
    """What is wrong with a folder that some nodes do not see."""
    found = f"a folder that node {', '.join(nodes)} does not see"
    return Problem("CFG-SHARED", where=path, found=found, expected="a place that every node sees", hint=_REMEDIES)


def _no_cuda(nodes: list[str]) -> Problem:
    return Problem(
        "CFG-CUDA",
        where=", ".join(nodes),
        found="a GPU that Ray announces and torch cannot use",
        expected="a driver, and a torch that was built with CUDA",
        hint="install them on this node, or start its Ray with --num-gpus=0",
    )
