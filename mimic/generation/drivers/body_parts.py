"""Driver with maps of body parts, read from a DensePose video or computed from an ordinary one.

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
from mimic.families.base import AnimationPipeline
from mimic.generation.drivers.base import POSE_SUFFIXES, Driver, Driving, Picture, used_frames
from mimic.generation.reference import Reference, fitted
from mimic.progress import Progress
from mimic.video import VideoError, probe, read_frames
from pose import PoseSequence
from pose.densepose import densepose_palette, read_densepose

# In a DensePose video, nearly all pixels have one of 25 colours, except for compression and blurred edges.
_NEAR = 24
_MIN_SHARE_OF_COLOURS = 0.8


class BodyPartMaps:
    """Maps of body parts; ``maps([3, 4])`` is uint8 ``2 x H x W x 3``.

    Map 0 belongs to the reference, whose parts are unknown, and shows only background. Maps are stored with
    lossless compression, so that a long clip needs little memory.
    """

    def __init__(self, height: int, width: int, frames: list[NDArray[np.uint8]] | None = None) -> None:
        self._height, self._width = height, width
        blank = np.empty((height, width, 3), np.uint8)
        blank[:] = densepose_palette()[0]
        self._kept: list[NDArray[np.uint8]] = []
        for frame in (blank, *(frames or ())):
            self.append(frame)

    def append(self, frame: NDArray[np.uint8]) -> None:
        """Append a map, uint8 ``H x W x 3``."""
        self._kept.append(np.asarray(cv2.imencode(".png", frame[..., ::-1])[1]))

    def __len__(self) -> int:
        return len(self._kept)

    def __call__(self, frames: list[int]) -> NDArray[np.uint8]:
        return np.stack([self.draw(frame) for frame in frames])

    def draw(self, frame: int) -> NDArray[np.uint8]:
        """Return one map, uint8 ``H x W x 3``."""
        decoded = cv2.imdecode(self._kept[frame], cv2.IMREAD_COLOR)
        assert decoded is not None
        shown = np.ascontiguousarray(decoded[..., ::-1], dtype=np.uint8)
        if shown.shape[:2] == (self._height, self._width):
            return shown
        size = (self._width, self._height)
        return np.asarray(cv2.resize(shown, size, interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)

    def resized(self, height: int, width: int) -> BodyPartMaps:
        """Return the same maps at another size in pixels."""
        other = BodyPartMaps(height, width)
        other._kept = self._kept
        return other


class BodyPartDriver(Driver):
    """Drives with a DensePose video, or with an ordinary one whose maps a DensePose model computes."""

    takes_poses = False

    def check_reference(self, picture: Picture, settings: CaseSettings, *, name: str) -> None:
        """Accept any picture; the reference's body parts are not needed."""

    def check_driving(self, driving: Path | PoseSequence, settings: CaseSettings) -> None:
        """Raise `ValueError` for poses, and `VideoError` for an ordinary video without a DensePose model."""
        clip = _clip_alone(driving)
        if self.tools.densepose_model() is None:
            check_is_densepose(next(iter(read_frames(clip, max_frames=1))), os.fspath(clip))

    def reference_pose(
        self, picture: Picture, height: int, width: int, settings: CaseSettings, *, name: str
    ) -> None:
        """Return None; no skeletons are used."""

    def read(
        self,
        driving: str | os.PathLike[str] | PoseSequence,
        reference: Reference,
        pipeline: AnimationPipeline[Any, Any],
        settings: CaseSettings,
        *,
        progress: Progress | None = None,
    ) -> Driving:
        """Read the maps and fit them to the size of the result in the same way as the reference.

        Raises:
            FileNotFoundError, VideoError: the clip is missing, cannot be read or is not a DensePose video.
            ValueError: poses were given.
            DensePoseError: the DensePose model's output is invalid.
        """
        path = _clip_alone(driving)
        clip = probe(path)
        used = used_frames(clip.num_frames, clip.fps, settings, name=os.fspath(path))
        height, width = reference.height, reference.width
        maps = BodyPartMaps(height, width)
        model = self.tools.densepose_model()
        frames = read_frames(
            path, first_frame=used.first, stride=used.stride, max_frames=used.limit(settings), info=clip
        )
        for number, frame in enumerate(frames, start=1):
            if model is not None:
                frame = densepose_palette()[model(frame)]  # noqa: PLW2901 - the map of this frame
            elif number == 1:
                check_is_densepose(frame, os.fspath(path))
            shown = fitted(np.ascontiguousarray(frame), height, width, pipeline, settings)
            maps.append(prepare_reference(shown, height=height, width=width))
            if progress is not None:
                progress(number, used.count)
        if len(maps) == 1:
            raise VideoError(f"{path} holds no frame")
        fps = float(clip.fps)
        return Driving(
            maps,
            used.stride,
            fps / used.stride,
            fps,
            clip,
            facts={"driven_by": "densepose"},
            first_frame=used.first,
            part_note=used.note,
            shows_clip=model is not None,
        )


def _clip_alone(driving: str | os.PathLike[str] | PoseSequence) -> Path:
    """Return the path of the driving clip.

    Raises:
        ValueError: poses were given.
    """
    if isinstance(driving, PoseSequence) or Path(driving).suffix.lower() in POSE_SUFFIXES:
        raise ValueError(
            "poses cannot drive this model, which is driven by maps of body parts; give a DensePose video, "
            "or an ordinary one and a DensePose model (densepose_model)."
        )
    return Path(driving)


def check_is_densepose(frame: NDArray[np.uint8], name: str) -> None:
    """Raise `VideoError` if a frame's colours are not those of DensePose's parts."""
    nearest = densepose_palette()[read_densepose(frame)].astype(np.int16)
    share = float((np.abs(nearest - frame).max(-1) <= _NEAR).mean())
    if share < _MIN_SHARE_OF_COLOURS:
        raise VideoError(
            f"{name} is no DensePose video: {share:.0%} of its first frame has colours of DensePose's parts "
            f"(expected at least {_MIN_SHARE_OF_COLOURS:.0%}). Give a DensePose video, or a DensePose model "
            "that computes the maps of an ordinary one (densepose_model: FILE)"
        )
