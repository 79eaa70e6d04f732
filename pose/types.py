"""What a pose is here: the whole-body points of everyone in every frame of a clip.

Legend: F frames, P people (padded to the largest number in any frame), K = 134 points.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_POINTS = 134
FORMAT_NAME = "mimic-pose"
FORMAT_VERSION = 1


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
        PoseError: shapes disagree, or a size or the frame rate is not positive.
    """

    points: NDArray[np.float64]
    scores: NDArray[np.float64]
    height: int
    width: int
    fps: float = 25.0
    is_present: NDArray[np.bool_] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        points = np.ascontiguousarray(self.points, dtype=np.float64)
        scores = np.ascontiguousarray(self.scores, dtype=np.float64)
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
        if self.height < 1 or self.width < 1 or not self.fps > 0:
            raise PoseError(f"frames of {self.width}x{self.height} at {self.fps} fps cannot be")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "is_present", is_present)

    @property
    def num_frames(self) -> int:
        return self.points.shape[0]

    @property
    def num_people(self) -> int:
        return self.points.shape[1]

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

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the sequence as a compressed npz, nothing pickled; the file appears whole or not at all."""
        path = Path(path)
        header = {
            "format": FORMAT_NAME,
            "version": FORMAT_VERSION,
            "height": int(self.height),
            "width": int(self.width),
            "fps": float(self.fps),
            "metadata": self.metadata,
        }
        assert self.is_present is not None
        beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with open(beside, "wb") as file:
                np.savez_compressed(
                    file,
                    points=self.points,
                    scores=self.scores,
                    is_present=self.is_present,
                    header=np.array(json.dumps(header)),
                )
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PoseSequence:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            PoseError: the file is no pose file, is damaged, or is of a later version.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                header = json.loads(str(file["header"]))
                if header["format"] == FORMAT_NAME and header["version"] <= FORMAT_VERSION:
                    arrays = {name: file[name] for name in ("points", "scores", "is_present")}
                    settings = {name: header[name] for name in ("height", "width", "fps", "metadata")}
                    return cls(**arrays, **settings)
        except FileNotFoundError:
            raise
        except Exception as error:
            raise PoseError(f"{path} is not a pose file written by `mimic pose`: {error}") from error
        if header["format"] != FORMAT_NAME:
            raise PoseError(f"{path} is not a pose file written by `mimic pose`")
        raise PoseError(
            f"{path} has pose format {header['version']}; this release reads up to {FORMAT_VERSION}. "
            "Update mimic."
        )


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
        return np.pad(array, [(0, 0), (0, missing)] + [(0, 0)] * (array.ndim - 2))

    return replace(
        parts[0],
        points=np.concatenate([padded(part.points) for part in parts]),
        scores=np.concatenate([padded(part.scores) for part in parts]),
        is_present=np.concatenate([padded(part.is_present) for part in parts if part.is_present is not None]),
    )
