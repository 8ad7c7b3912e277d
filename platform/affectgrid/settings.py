"""The base of every configuration model, and the dotted names by which its fields are addressed."""

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


def _mapping(content: BaseModel | Mapping[str, Any]) -> Mapping[str, Any]:
    return content.model_dump(mode="json") if isinstance(content, BaseModel) else content
