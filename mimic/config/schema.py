"""JSON schemas of the YAMLs, generated from the settings classes, for editors and for lists of settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from mimic.config.inference import CaseConfig, InferenceConfig


def json_schema(settings: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a YAML: all keys that it may have, their types, defaults and meanings.

    Alternative names of settings are included, and in an inference YAML the settings of cases at the top
    level.
    """
    schema = settings.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    for definition in (schema, *schema.get("$defs", {}).values()):
        _add_other_names(definition)
    if issubclass(settings, InferenceConfig):
        case = schema["$defs"][CaseConfig.__name__]
        case.pop("required", None)  # they may be given for all cases
        schema["properties"] |= {
            key: value for key, value in case["properties"].items() if key not in schema["properties"]
        }
    return schema


def described_keys(schema: dict[str, Any]) -> Iterator[str]:
    """Describe each key of a schema: its name, default and meaning; those of nested objects follow it."""
    yield from _described(schema, schema.get("$defs", {}), prefix="")


def _described(schema: dict[str, Any], definitions: dict[str, Any], prefix: str) -> Iterator[str]:
    for key, value in schema.get("properties", {}).items():
        default = f" (default: {value['default']})" if value.get("default") is not None else ""
        yield f"{prefix}{key}{default}\n    {' '.join(value.get('description', '').split())}".rstrip()
        name = value.get("$ref", "").removeprefix("#/$defs/")
        if name in definitions:
            yield from _described(definitions[name], definitions, f"{prefix}{key}.")


def _add_other_names(definition: dict[str, Any]) -> None:
    properties = definition.get("properties", {})
    for other, name in CaseConfig.OTHER_NAMES.items():
        if name in properties and "ref_video_path" in properties:
            properties[other] = {**properties[name], "description": f"Released name of `{name}`."}
