"""What a pose estimator can do, and the checks of what it is given."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose.tracking import Followed, follow_person
from pose.types import PoseError, PoseSequence
from pose.video import VideoReader

Progress = Callable[[int, int | None], None]


class Estimator(ABC):
    """Finds whole-body poses in pictures and clips. Pictures are RGB uint8 ``H x W x 3``."""

    name: str

    @abstractmethod
    def image(self, picture: NDArray[np.uint8]) -> PoseSequence:
        """Everyone in one picture, the surest first: F = 1; P = 0 where nobody is found."""

    @abstractmethod
    def frames(
        self,
        pictures: Iterable[NDArray[np.uint8]],
        *,
        fps: float,
        person: Followed = "largest",
        total: int | None = None,
        progress: Progress | None = None,
    ) -> PoseSequence:
        """The poses of a clip, given frame by frame (all of one size); see `pose.tracking.follow_person`.

        Args:
            fps: frames a second of these frames.
            person: `largest`, `center`, an index (0 is furthest left), or `all`.
            total: the number of frames, if known; only handed on to `progress`.
            progress: called with (frames done, total) after every frame.

        Raises:
            PoseError: there are no frames, they differ in size, or the person is in none of them.
        """

    def follow(self, everyone: PoseSequence, person: Followed) -> PoseSequence:
        """Select the person to follow among everyone found in a clip, and note how many there are."""
        followed = follow_person(everyone, person)
        told = {"estimator": self.name, "person": person, "most_people": everyone.num_people}
        return replace(followed, metadata=told)

    def video(
        self,
        path: str | os.PathLike[str],
        *,
        stride: int = 1,
        person: Followed = "largest",
        max_frames: int | None = None,
        progress: Progress | None = None,
    ) -> PoseSequence:
        """The poses of a video file; `fps` is that of the file divided by the stride.

        Raises:
            FileNotFoundError: there is no such file.
            PoseError: it cannot be read as a video; or as `frames`.
        """
        reader = VideoReader(path, stride=stride, max_frames=max_frames)
        sequence = self.frames(reader, fps=reader.fps, person=person, total=reader.total, progress=progress)
        return replace(sequence, metadata={**sequence.metadata, "source": Path(path).name, "stride": stride})


def checked_picture(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture, laid out for OpenCV.

    Raises:
        PoseError: it is not RGB uint8 ``H x W x 3``.
    """
    picture = np.asarray(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise PoseError(
            f"a picture is {picture.dtype} {picture.shape}; expected RGB uint8 (height, width, 3)"
        )
    return np.ascontiguousarray(picture)


def checked_frames(pictures: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Frames as they come, each checked to be a picture of the first one's size.

    Raises:
        PoseError: a frame is no picture, differs in size, or there is none.
    """
    shape: tuple[int, ...] | None = None
    for number, picture in enumerate(pictures):
        frame = checked_picture(picture)
        shape = shape or frame.shape
        if frame.shape != shape:
            raise PoseError(
                f"frame {number} is {frame.shape[1]}x{frame.shape[0]}, the first {shape[1]}x{shape[0]}; "
                "frames of one clip have one size"
            )
        yield frame
    if shape is None:
        raise PoseError("the clip has no frames")
