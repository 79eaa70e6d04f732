"""Maps of the parts of the body as what drives: of a DensePose video, or made of an ordinary one.

Legend: F frames, H height, W width; maps are RGB uint8 in DensePose's colours.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mimic.config import CaseSettings
from mimic.data.transforms import prepare_reference
from mimic.generation.poses import Driving, Progress, num_driving_frames
from mimic.generation.reference import fitted
from mimic.models.densepose_model import DensePoseModel
from mimic.video import VideoError, probe, read_frames, released_stride
from pose import PoseSequence
from pose.densepose import densepose_palette, read_densepose

# Of a DensePose video nearly all pixels have one of 25 colours, compression and blurred edges aside.
_NEAR = 24
_MIN_SHARE_OF_COLOURS = 0.8


class BodyPartMaps:
    """Maps ``maps([3, 4])``, uint8 ``2 x H x W x 3``; number 0 stands for the reference, whose parts are
    unknown: background.

    Frames are kept without loss but compressed, so that a long clip does not fill the memory.
    """

    def __init__(self, height: int, width: int, frames: list[NDArray[np.uint8]] | None = None) -> None:
        self._height, self._width = height, width
        blank = np.empty((height, width, 3), np.uint8)
        blank[:] = densepose_palette()[0]
        self._kept: list[NDArray[np.uint8]] = []
        for frame in (blank, *(frames or ())):
            self.append(frame)

    def append(self, frame: NDArray[np.uint8]) -> None:
        """Add a map ``H x W x 3`` at the end."""
        self._kept.append(np.asarray(cv2.imencode(".png", frame[..., ::-1])[1]))

    def __len__(self) -> int:
        return len(self._kept)

    def __call__(self, frames: list[int]) -> NDArray[np.uint8]:
        return np.stack([self.draw(frame) for frame in frames])

    def draw(self, frame: int) -> NDArray[np.uint8]:
        """One map, uint8 ``H x W x 3``."""
        decoded = cv2.imdecode(self._kept[frame], cv2.IMREAD_COLOR)
        assert decoded is not None
        shown = np.ascontiguousarray(decoded[..., ::-1], dtype=np.uint8)
        if shown.shape[:2] == (self._height, self._width):
            return shown
        size = (self._width, self._height)
        return np.asarray(cv2.resize(shown, size, interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)

    def resized(self, height: int, width: int) -> BodyPartMaps:
        """The same maps at another size."""
        other = BodyPartMaps(height, width)
        other._kept = self._kept
        return other


def read_body_parts(
    driving: str | os.PathLike[str],
    settings: CaseSettings,
    pipeline: Any,
    *,
    height: int,
    width: int,
    model: DensePoseModel | None = None,
    progress: Progress | None = None,
) -> tuple[Driving, BodyPartMaps]:
    """The driving clip and its maps at the size of the result, brought to it as the reference is.

    Args:
        driving: a DensePose video; with a `model`, an ordinary one.

    Raises:
        FileNotFoundError, VideoError: there is no clip that can be read, or it is no DensePose video.
        DensePoseError: the model's output is not what it should be.
    """
    clip = probe(driving)
    stride = released_stride(settings.sample_stride, clip.fps)
    total = num_driving_frames(clip, settings)
    maps = BodyPartMaps(height, width)
    number_parts = _none if model is None else model
    for number, frame in enumerate(
        read_frames(driving, stride=stride, max_frames=settings.max_frames, info=clip), start=1
    ):
        parts = number_parts(frame)
        if parts is not None:
            frame = densepose_palette()[parts]  # noqa: PLW2901 - the same frame, seen otherwise
        elif number == 1:
            check_is_densepose(frame, os.fspath(driving))
        shown = fitted(np.ascontiguousarray(frame), height, width, pipeline, settings)
        maps.append(prepare_reference(shown, height=height, width=width))
        if progress is not None:
            progress(number, total)
    if len(maps) == 1:
        raise VideoError(f"{os.fspath(driving)} holds no frame")
    return Driving(None, stride, float(clip.fps), clip, num_maps=len(maps) - 1), maps


def clip_alone(driving: Path | PoseSequence) -> Path:
    """What drives, if it is a clip.

    Raises:
        ValueError: it is poses.
    """
    if isinstance(driving, PoseSequence) or driving.suffix.lower() == ".npz":
        raise ValueError(
            "poses cannot drive this model, which is driven by maps of the parts of the body; give a "
            "DensePose video, or an ordinary one and a DensePose model (densepose_model)."
        )
    return driving


def check_is_densepose(frame: NDArray[np.uint8], name: str) -> None:
    """Raise `VideoError` for a frame whose colours are not those of DensePose's parts."""
    nearest = densepose_palette()[read_densepose(frame)].astype(np.int16)
    share = float((np.abs(nearest - frame).max(-1) <= _NEAR).mean())
    if share < _MIN_SHARE_OF_COLOURS:
        raise VideoError(
            f"{name} is no DensePose video: {share:.0%} of its first frame has colours of DensePose's parts "
            f"(expected {_MIN_SHARE_OF_COLOURS:.0%} at least). This model is driven by one; or name a "
            "DensePose model that makes one of an ordinary video: densepose_model: FILE"
        )


def _none(_frame: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    return None
