"""The base of every configuration model, the dotted names of its fields, and the YAML that holds their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

# Of an encoder. Defined here because the features' settings and the encoders may not import each other.
AudioPooling = Literal["model", "mean", "mean+sd"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
RuntimeName = Literal["torch", "openvino"]
COMPUTES: dict[RuntimeName, tuple[Precision, ...]] = {
    "torch": ("auto", "fp32", "bf16", "fp16"),
    "openvino": ("auto", "fp32", "bf16", "int8"),
}

_MAX_NODES = 100_000  # of a YAML file; each alias counts as what it stands for


class Settings(BaseModel):
    """Frozen; an unknown key, a wrong type or a value out of range fails before any work."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def flatten(content: BaseModel | Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` -> ``{"a.b": 1}``; an empty mapping stays a value. A model gives plain JSON values."""
    values: dict[str, Any] = {}
    for name, value in _mapping(content).items():
        if isinstance(value, Mapping) and value:
            values |= flatten(value, f"{prefix}{name}.")
        else:
            values[f"{prefix}{name}"] = value
    return values


def unflatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """``{"a.b": 1}`` -> ``{"a": {"b": 1}}``."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *parents, last = name.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return nested


def get(content: BaseModel | Mapping[str, Any], name: str) -> Any:
    """The value of a dotted name; of a model as plain JSON. Raises KeyError."""
    value: Any = _mapping(content)
    for part in name.split("."):
        value = value[part]
    return value


def parse_yaml(text: str) -> Any:
    """The content of a YAML file that builds no objects.

    Raises yaml.YAMLError, and nothing else: also for a tag that does not fit its value, for nesting without end, and
    for aliases that unfold to more than 100,000 values or hold themselves.
    """
    import yaml  # here: a job that reads no such file starts without it

    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                return None
            if _num_nodes(root, {}) > _MAX_NODES:
                raise yaml.YAMLError(f"aliases that unfold to more than {_MAX_NODES:,} values")
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.YAMLError:
        raise
    except Exception as error:  # PyYAML's constructors fail with what their conversion raises
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from error


def _num_nodes(node: Any, known: dict[Any, int]) -> int:
    """Nodes under one, those behind aliases each time; `known` are those that have been counted."""
    if node not in known:
        known[node] = _MAX_NODES + 1  # so much it has, should it hold itself
        children = node.value if isinstance(node.value, list) else []
        pairs = [child if isinstance(child, tuple) else (child,) for child in children]
        known[node] = 1 + sum(_num_nodes(child, known) for pair in pairs for child in pair)
    return known[node]


def _mapping(content: BaseModel | Mapping[str, Any]) -> Mapping[str, Any]:
    return content.model_dump(mode="json") if isinstance(content, BaseModel) else content
