"""JSON schemas of the YAMLs, generated from the settings classes, for editors and for lists of settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from mimic.config.inference import CaseConfig, InferenceConfig
from pose.adjust import LARGEST_FACTOR, LIMBS, PARTS

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(settings: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a YAML: all keys that it may have, their types, defaults and meanings.

    Alternative names of settings are included, and in an inference YAML the settings of cases at the top
    level.
    """
    schema = settings.model_json_schema()
    schema["$schema"] = _DIALECT
    for definition in (schema, *schema.get("$defs", {}).values()):
        _add_other_names(definition)
    if issubclass(settings, InferenceConfig):
        case = schema["$defs"][CaseConfig.__name__]
        case.pop("required", None)  # they may be given for all cases
        schema["properties"] |= {
            key: value for key, value in case["properties"].items() if key not in schema["properties"]
        }
    return schema


def adjust_schema() -> dict[str, Any]:
    """Return the JSON schema of corrections of poses: `adjust`, and the file of `mimic pose --adjust`."""
    factor = {"type": "number", "minimum": 1 / LARGEST_FACTOR, "maximum": LARGEST_FACTOR}
    move = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    keyframe = {
        "type": "object",
        "properties": {
            "frame": {"type": "integer", "minimum": 0, "description": "Time, as a driving frame from 0."},
            "seconds": {"type": "number", "minimum": 0, "description": "Time in seconds, in place of frame."},
            "points": {
                "type": "object",
                "properties": dict.fromkeys(PARTS, move),
                "additionalProperties": False,
                "minProperties": 1,
                "description": "Moves [right, down] by point, in fractions of the frame.",
            },
        },
        "required": ["points"],
        "oneOf": [{"required": ["frame"]}, {"required": ["seconds"]}],
        "additionalProperties": False,
    }
    return {
        "$schema": _DIALECT,
        "title": "Corrections of poses",
        "type": "object",
        "properties": {
            "scale": {**factor, "default": 1.0, "description": "Factor of the whole figure."},
            "offset": {
                **move,
                "default": [0.0, 0.0],
                "description": "Shift [right, down] in fractions of the frame.",
            },
            "rotate": {"type": "number", "default": 0.0, "description": "Turn in degrees, clockwise."},
            "limbs": {
                "type": "object",
                "properties": dict.fromkeys(LIMBS, factor),
                "additionalProperties": False,
                "description": f"Factors of bones: {', '.join(LIMBS)}.",
            },
            "keyframes": {
                "type": "array",
                "items": keyframe,
                "description": "Moves of points at some times; between them they change linearly.",
            },
            "person": {
                "type": "integer",
                "minimum": 0,
                "description": "The person that is corrected, from 0; everybody unless given.",
            },
        },
        "additionalProperties": False,
    }


def described_keys(schema: dict[str, Any]) -> Iterator[str]:
    """Describe each key of a schema: its name, default and meaning; those of nested objects follow it, as
    `lora.rank`, and those of each object in a list as `variants[].name`."""
    yield from _described(schema, schema.get("$defs", {}), prefix="")


def _described(schema: dict[str, Any], definitions: dict[str, Any], prefix: str) -> Iterator[str]:
    for key, value in schema.get("properties", {}).items():
        default = f" (default: {value['default']})" if value.get("default") is not None else ""
        yield f"{prefix}{key}{default}\n    {' '.join(value.get('description', '').split())}".rstrip()
        for name, is_listed in _objects_in(value):
            yield from _described(
                definitions[name], definitions, f"{prefix}{key}{'[]' if is_listed else ''}."
            )


def _objects_in(value: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    """Names of the definitions that a key's value may have, and whether it is a list of them."""
    # Older versions of pydantic put a single definition into `allOf`.
    for kind in (value, *value.get("anyOf", ()), *value.get("allOf", ())):
        for form, is_listed in ((kind, False), (kind.get("items", {}), True)):
            if "$ref" in form:
                yield form["$ref"].removeprefix("#/$defs/"), is_listed


def _add_other_names(definition: dict[str, Any]) -> None:
    properties = definition.get("properties", {})
    for other, name in CaseConfig.OTHER_NAMES.items():
        if name in properties and "ref_video_path" in properties:
            properties[other] = {**properties[name], "description": f"Released name of `{name}`."}
