"""Which settings of a case go to a pipeline, and under which name: families take different ones."""

from __future__ import annotations

import inspect
from typing import Any

from mimic.config import CaseSettings

_OTHER_NAMES = {"conditioning_fps": "fps"}
_FOR_FAMILIES = (
    "tile_size", "tile_overlap", "num_inference_steps", "noise_aug_strength", "min_guidance_scale",
    "max_guidance_scale", "conditioning_fps", "motion_bucket_id", "fusion", "noise", "windows",
    "control_scale",
)  # fmt: skip


def family_settings(pipeline: Any, settings: CaseSettings) -> dict[str, Any]:
    """Arguments of the pipeline's call that the settings decide; those left out are None.

    Raises:
        ValueError: a setting is given that this family does not have.
    """
    known = inspect.signature(type(pipeline).__call__).parameters
    given = {name: getattr(settings, name, None) for name in _FOR_FAMILIES}
    given["min_guidance_scale"], given["max_guidance_scale"] = settings.guidance_range
    arguments = {_OTHER_NAMES.get(name, name): value for name, value in given.items()}
    for name, value in arguments.items():
        if value is not None and name not in known:
            said = next((ours for ours, theirs in _OTHER_NAMES.items() if theirs == name), name)
            raise ValueError(f"{type(pipeline).__name__} has no setting {said}; leave it out.")
    if "compat" in known:
        arguments["compat"] = settings.compat
    return {name: value for name, value in arguments.items() if name in known}
