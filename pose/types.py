"""What a pose is here: the whole-body points of everyone in every frame of a clip.

Legend: F frames, P people (padded to the largest number in any frame), K = 134 points.
"""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.text import one_line

NUM_POINTS = 134
FORMAT_NAME = "mimic-pose"
FORMAT_VERSION = 1
MAX_SIDE = 10**6
"""Of the frames that poses were found in, in pixels."""
MIN_FPS, MAX_FPS = 1e-9, 1e6


class PoseError(ValueError):
    """Poses that cannot be what was asked for: wrong shape, wrong file, nobody found."""


@dataclass(frozen=True, eq=False)
class PoseSequence:
    """Whole-body poses of a clip, or of one picture (F = 1).

    Args:
        points: float64 ``F x P x 134 x 2``; x as a fraction of the frame's width, y of its height
            (0, 0 is the top left corner). Points may lie outside [0, 1]. Order: 18 body joints
            (OpenPose), 6 feet, 68 face, 21 left hand, 21 right hand.
        scores: float64 ``F x P x 134``, confidence; nominally in [0, 1] but kept as given.
        is_present: bool ``F x P``; False marks padding: that frame holds fewer people than P.
        height, width: size in pixels of the frames that the poses were found in.
        fps: frames a second of these poses (after any stride).
        metadata: strings, numbers and lists that describe where the poses come from.

    Raises:
        PoseError: shapes disagree, or a size or the frame rate is none that frames can have.
    """

    points: NDArray[np.float64]
    scores: NDArray[np.float64]
    height: int
    width: int
    fps: float = 25.0
    is_present: NDArray[np.bool_] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        points, scores = _as_floats(self.points, "points"), _as_floats(self.scores, "scores")
        if points.ndim != 4 or points.shape[2:] != (NUM_POINTS, 2):
            raise PoseError(f"points have shape {points.shape}; expected (frames, people, {NUM_POINTS}, 2)")
        if scores.shape != points.shape[:3]:
            raise PoseError(f"scores have shape {scores.shape}; expected {points.shape[:3]}, as the points")
        is_present = self.is_present
        if is_present is None:
            is_present = np.ones(points.shape[:2], dtype=np.bool_)
        is_present = np.ascontiguousarray(is_present, dtype=np.bool_)
        if is_present.shape != points.shape[:2]:
            raise PoseError(f"is_present has shape {is_present.shape}; expected {points.shape[:2]}")
        sides = (self.height, self.width)
        is_size = all(
            isinstance(side, numbers.Real) and 1 <= side <= MAX_SIDE and side == int(side) for side in sides
        )
        if not is_size or not isinstance(self.fps, numbers.Real) or not MIN_FPS <= self.fps <= MAX_FPS:
            width, height, fps = (one_line(value, 20) for value in (self.width, self.height, self.fps))
            raise PoseError(
                f"frames of {width}x{height} at {fps} fps were given; expected a height and a width of 1 to "
                f"{MAX_SIDE} pixels and a frame rate from {MIN_FPS:g} to {MAX_FPS:g}"
            )
        if not isinstance(self.metadata, dict):
            raise PoseError(f"metadata is a {type(self.metadata).__name__}; expected names and values")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "is_present", is_present)

    @property
    def num_frames(self) -> int:
        return self.points.shape[0]

    @property
    def num_people(self) -> int:
        return self.points.shape[1]

    @property
    def is_seen(self) -> NDArray[np.bool_]:
        """F x P: whether the person is present and any of the points has a score."""
        assert self.is_present is not None
        return np.asarray(self.is_present & (self.scores > 0).any(axis=-1))

    def __len__(self) -> int:
        return self.num_frames

    def __getitem__(self, frames: int | slice | NDArray[np.int64] | list[int]) -> PoseSequence:
        """The poses of some frames; one index gives a sequence of one frame."""
        if isinstance(frames, (int, np.integer)):
            index = range(self.num_frames)[int(frames)]
            frames = slice(index, index + 1)
        assert self.is_present is not None
        return replace(
            self, points=self.points[frames], scores=self.scores[frames], is_present=self.is_present[frames]
        )

    def frames(self) -> Iterator[PoseSequence]:
        return (self[i] for i in range(self.num_frames))

    def save(self, path: str | os.PathLike[str], format: str | None = None) -> Path:
        """Write the sequence; the file appears whole or not at all.

        Args:
            path: the file.
            format: `npz` (our own, which keeps everything), `openpose` (JSON in the layout of ComfyUI's
                DWPose nodes) or `coco` (COCO-WholeBody's JSON); None takes openpose for ``.json``, else npz.

        Raises:
            PoseError: there is no such format.
        """
        written: Path = _formats().write_poses(self, path, format)
        return written

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        fps: float | None = None,
        height: int | None = None,
        width: int | None = None,
    ) -> PoseSequence:
        """Read what `save` wrote, or poses of other programs.

        Args:
            path: an npz; OpenPose's or COCO-WholeBody's JSON; or a folder with OpenPose's files, one a frame.
            fps, height, width: of JSON files that do not say it; npz files do.

        Raises:
            FileNotFoundError: there is no such file.
            PoseError: the file is no pose file, is damaged, or is of a later version.
        """
        read: PoseSequence = _formats().read_poses(path, fps=fps, height=height, width=width)
        return read


def _formats() -> Any:
    """The formats of files, found by name: they are built on the class above."""
    return import_module("pose.formats")


def _as_floats(array: Any, name: str) -> NDArray[np.float64]:
    try:
        floats = np.ascontiguousarray(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PoseError(f"{name} are not an array of numbers: {one_line(error)}") from error
    if not np.isfinite(floats).all():
        raise PoseError(
            f"{name} hold {int((~np.isfinite(floats)).sum())} values that are not finite (NaN or infinite); "
            "points that are not known have a score of 0"
        )
    return floats


def concatenate(sequences: Iterable[PoseSequence]) -> PoseSequence:
    """Put sequences one after another; frame size, rate and metadata are the first one's.

    Raises:
        PoseError: there is nothing to put together.
    """
    parts = list(sequences)
    if not parts:
        raise PoseError("no poses to put together")
    num_people = max(part.num_people for part in parts)

    def padded(array: NDArray[Any]) -> NDArray[Any]:
        missing = num_people - array.shape[1]
        if missing == 0:
            return array
        return np.pad(array, [(0, 0), (0, missing)] + [(0, 0)] * (array.ndim - 2))

    return replace(
        parts[0],
        points=np.concatenate([padded(part.points) for part in parts]),
        scores=np.concatenate([padded(part.scores) for part in parts]),
        is_present=np.concatenate([padded(part.is_present) for part in parts if part.is_present is not None]),
    )
