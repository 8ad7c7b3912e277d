"""The JSON schema of search-space files: editors complete and check them with it, field by field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from affectgrid.search.space.budget import DURATION
from affectgrid.search.space.objective import SCORE
from affectgrid.search.space.schema import SearchSpace, setting_names
from affectgrid.settings import flatten
from affectgrid.training.config import TrainConfig

Schema = dict[str, Any]
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")


def space_schema() -> Schema:
    """The schema of a whole file.

    It knows every setting by its dotted name, with its description, default, bounds and values. What only the reader
    can check (conditions, the way that two settings go together) is left to `space.parse_space`.
    """
    schema = SearchSpace.model_json_schema(by_alias=True)
    parts, fields = schema["$defs"], setting_schemas()
    parts["Settings"] = {"type": "object", "properties": fields, "additionalProperties": False}
    values = {"$ref": "#/$defs/Settings"}
    properties = schema["properties"]
    # `base` is another name for constants.
    for name in ("constants", "base"):
        properties[name] = {**values, "description": "fixed settings"}
    properties["points"]["items"] = values
    parts["Arm"]["properties"]["set"] = {**values, "description": parts["Arm"]["properties"]["set"]["description"]}
    dimension = parts.pop("Dimension")
    searched = {name: _dimension(dimension, field) for name, field in fields.items()}
    properties["space"] |= {"properties": searched, "additionalProperties": False}
    goals = {name: text for name, text in properties["objective"].items() if name in ("type", "items", "minItems")}
    properties["objective"] = {
        "description": properties["objective"]["description"],
        "default": SCORE,
        "anyOf": [{"const": SCORE}, goals],
    }
    properties["time_budget"] |= {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, _text(DURATION)]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Search space",
        "oneOf": [{"required": ["space"]}, {"required": ["arms"]}],
        **{name: part for name, part in schema.items() if name not in ("title",)},
    }


def schema_text() -> str:
    """The schema as ``search_spaces/schema.json`` holds it."""
    return json.dumps(space_schema(), indent=1, ensure_ascii=False) + "\n"


def setting_schemas() -> dict[str, Schema]:
    """Dotted name of every setting -> the schema of its values."""
    root = TrainConfig.model_json_schema()
    schemas = {name: _lookup(root, name) for name in setting_names()}
    defaults = flatten(TrainConfig())
    return {name: {**schema, "default": defaults[name]} for name, schema in schemas.items()}


def _lookup(root: Mapping[str, Any], name: str) -> Schema:
    schema: Any = root
    for part in name.split("."):
        schema = _resolved(root, schema)["properties"][part]
    found: Schema = _inlined(root, schema)
    found.pop("title", None)
    return found


def _inlined(root: Mapping[str, Any], schema: Any) -> Any:
    """`schema` without references, so that it can stand anywhere."""
    if isinstance(schema, Mapping):
        return {name: _inlined(root, part) for name, part in _resolved(root, schema).items()}
    return [_inlined(root, part) for part in schema] if isinstance(schema, list) else schema


def _resolved(root: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return dict(schema)
    part = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return {**part, **{name: value for name, value in schema.items() if name != "$ref"}}


def _dimension(general: Mapping[str, Any], field: Mapping[str, Any]) -> Schema:
    """What may stand under one setting: ranges only for numbers, with the setting's own bounds."""
    kinds = {kind.get("type") for kind in (field, *field.get("anyOf", ()))}
    ranges = {"float": {"number"}, "int": {"number", "integer"}}
    properties: Schema = {}
    for name, part in general["properties"].items():
        if name in ranges:
            if kinds & ranges[name]:
                bounds = {word: field[word] for word in _BOUNDS if word in field}
                number = {"type": "number" if name == "float" else "integer", **bounds}
                fixed = {"type": "array", "items": number, "minItems": 2, "maxItems": 2}
                properties[name] = {"description": part["description"], **fixed}
        elif name == "choice":
            value = {word: part for word, part in field.items() if word not in ("default", "description")}
            properties[name] = {"description": part["description"], "type": "array", "minItems": 1, "items": value}
        elif name == "when" or kinds & {"number", "integer"}:
            properties[name] = part
    given = [name for name in ("float", "int", "choice") if name in properties]
    return {
        "type": "object",
        "description": f"{field.get('description', '')} (default: {json.dumps(field['default'])})".strip(),
        "properties": properties,
        "additionalProperties": False,
        "oneOf": [{"required": [name]} for name in given],
    }


def _text(pattern: str) -> Schema:
    return {"type": "string", "pattern": pattern}
