"""Send a training's figures to an experiment tracker that accelerate knows (wandb, trackio, mlflow, …)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimic.config.loading import ConfigError
from mimic.training.clips import add_clip
from pose.text import shown


def check_tracker(name: str) -> None:
    """Check that accelerate knows a tracker and that it is installed.

    Raises:
        ConfigError: it does not, or it is not; the message lists those that are.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    installed = sorted({str(tracker) for tracker in get_available_trackers()})
    there = ", ".join(installed) or "none"
    known = sorted(map(str, LOGGER_TYPE_TO_CLASS))
    if name not in known:
        raise ConfigError(
            f"tracker is {shown(name)}, which accelerate does not know; it knows {', '.join(known)}. "
            f"Installed here: {there}"
        )
    if name not in installed:
        raise ConfigError(
            f"tracker is {name}, which is not installed (`pip install {name}`). Installed here: {there}"
        )


class Tracker:
    """The tracker of a training, in the main process.

    Args:
        accelerator: made with the tracker's name as `log_with`.
        project: name under which the training is filed.
        settings: of the training, as nested values.
    """

    def __init__(self, accelerator: Any, project: str, settings: Mapping[str, Any]) -> None:
        self._accelerator = accelerator
        accelerator.init_trackers(project, config=_flat(settings))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Send figures of a step."""
        self._accelerator.log(dict(figures), step=step)

    def show(self, step: int, name: str, picture_HW3: NDArray[np.uint8]) -> None:
        """Send a picture, where the tracker takes any."""
        for tracker in self._accelerator.trackers:
            if not hasattr(tracker, "log_images"):
                continue
            options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({name: picture_HW3[None]}, step=step, **options)

    def show_clip(self, step: int, name: str, frames: Sequence[NDArray[np.uint8]], *, fps: float) -> None:
        """Send a clip of frames ``H x W x 3`` to TensorBoard; accelerate has no call for it to the others."""
        for tracker in self._accelerator.trackers:
            if tracker.name == "tensorboard":
                add_clip(tracker.tracker, name, step, frames, fps=fps)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, int | float | str | bool]:
    """Settings by their full names, in kinds that every tracker stores."""
    found: dict[str, int | float | str | bool] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value if isinstance(value, int | float | str) else str(value)
    return found
