"""Whole-body poses: find, follow, align, draw. Knows nothing of diffusion."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pose.align import align_pose
    from pose.draw import draw_pose
    from pose.gaps import bridge_gaps
    from pose.load import load_estimator
    from pose.presence import Presence, summarise_presence
    from pose.smooth import smooth_pose
    from pose.tracking import follow_person
    from pose.types import PoseError, PoseSequence

__all__ = [
    "PoseError",
    "PoseSequence",
    "Presence",
    "align_pose",
    "bridge_gaps",
    "draw_pose",
    "follow_person",
    "load_estimator",
    "smooth_pose",
    "summarise_presence",
]

# Where each name lives; the module is imported when the name is first asked for.
_HOMES = {
    "PoseError": "pose.types",
    "PoseSequence": "pose.types",
    "Presence": "pose.presence",
    "align_pose": "pose.align",
    "bridge_gaps": "pose.gaps",
    "draw_pose": "pose.draw",
    "follow_person": "pose.tracking",
    "load_estimator": "pose.load",
    "smooth_pose": "pose.smooth",
    "summarise_presence": "pose.presence",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
