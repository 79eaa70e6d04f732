"""Presets: settings that exchange accuracy for fewer and cheaper evaluations of the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "exact": {},
    "balanced": {
        "num_inference_steps": 15,
        "schedule": "aligned",
        "guidance_interval": (0.05, 60.0),
    },
    "fast": {
        "num_inference_steps": 10,
        "schedule": "aligned",
        "guidance_interval": (0.3, 20.0),
        "reuse_interval": 2,
    },
}
"""Settings of each preset. A setting that is given takes precedence; the number of steps is never raised."""


def preset_settings(name: str, base: Mapping[str, Any], *, takes_sigmas: bool) -> dict[str, Any]:
    """Return the settings of a preset for a model.

    Args:
        name: a key of `PRESETS`.
        base: settings without the preset, of which `num_inference_steps` is read.
        takes_sigmas: whether the model's scheduler takes noise levels, as an aligned schedule needs.
    """
    settings = dict(PRESETS[name])
    if not takes_sigmas:
        settings.pop("schedule", None)
    if "num_inference_steps" in settings:
        own = base.get("num_inference_steps", settings["num_inference_steps"])
        settings["num_inference_steps"] = min(settings["num_inference_steps"], own)
    return settings
