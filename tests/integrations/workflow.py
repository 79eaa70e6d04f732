"""Workflows as ComfyUI's page saves them, turned into what its page sends to the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


def to_prompt(workflow: Mapping[str, Any], nodes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Convert a saved workflow to a prompt, with the widgets in the order of each node's inputs.

    Args:
        workflow: the content of a workflow's file.
        nodes: node classes by id, with `INPUT_TYPES`.
    """
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        values = list(node["widgets_values"])
        kinds = nodes[node["type"]].INPUT_TYPES()
        inputs: dict[str, Any] = {}
        for name, (kind, options, *_) in _pairs(kinds):
            if isinstance(kind, list) or kind in WIDGETS:
                inputs[name] = values.pop(0)
                if options.get("control_after_generate"):
                    assert values.pop(0) in {"fixed", "increment", "decrement", "randomize"}
                if any(key.endswith("_upload") for key in options):
                    assert values.pop(0) == "image"  # the button
        assert not values, f"{node['type']} has widgets that its schema does not: {values}"
        for given in node["inputs"]:
            if given["link"] is not None:
                inputs[given["name"]] = sources[given["link"]]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def _pairs(kinds: Mapping[str, Any]) -> list[tuple[str, tuple[Any, ...]]]:
    found = []
    for category in ("required", "optional"):
        for name, entry in kinds.get(category, {}).items():
            found.append((name, (entry[0], entry[1] if len(entry) > 1 else {})))
    return found
