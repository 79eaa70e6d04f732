"""The frames of a video file, one at a time, as OpenCV decodes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.types import PoseError


class VideoReader:
    """Every `stride`-th frame of a video, upright (rotation metadata applied), RGB uint8 ``H x W x 3``.

    Args:
        path: any video or animation that OpenCV's FFmpeg reads.
        stride: 1 reads every frame, 2 every other.
        max_frames: stop after this many frames (counted after the stride).

    Attributes:
        fps: frames a second after the stride.
        total: the number of frames to expect, or None when the file does not say; the count in a
            file's header may be off by a few.

    Raises:
        FileNotFoundError: there is no such file.
        PoseError: the file cannot be read as a video, or stride or max_frames is below 1.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, stride: int = 1, max_frames: int | None = None
    ) -> None:
        self.path = Path(path)
        if stride < 1:
            raise PoseError(f"stride is {stride}; it must be 1 or more")
        if max_frames is not None and max_frames < 1:
            raise PoseError(f"max_frames is {max_frames}; it must be 1 or more, or None for all")
        self.stride = stride
        self.max_frames = max_frames
        capture = self._open()
        rate = capture.get(cv2.CAP_PROP_FPS)
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        self.fps: float = (rate if rate > 0 else 25.0) / stride
        expected = -(-count // stride) if count > 0 else None
        self.total: int | None = expected
        if expected is not None and max_frames is not None:
            self.total = min(expected, max_frames)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        capture = self._open()
        try:
            index = num_given = 0
            while num_given != self.max_frames and capture.grab():
                if index % self.stride == 0:
                    is_read, frame = capture.retrieve()
                    if not is_read:
                        break
                    yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
                    num_given += 1
                index += 1
            if num_given == 0:
                raise PoseError(f"{self.path} holds no frame that can be decoded")
        finally:
            capture.release()

    def _open(self) -> cv2.VideoCapture:
        if not self.path.exists():
            raise FileNotFoundError(f"no video at {self.path}")
        # OpenCV's own warning about a file that it cannot open would stand beside our sentence.
        level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            capture = cv2.VideoCapture(str(self.path), cv2.CAP_FFMPEG)
        finally:
            cv2.utils.logging.setLogLevel(level)
        if not capture.isOpened():
            raise PoseError(f"{self.path} cannot be read as a video; is it complete, and a video at all?")
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        return capture
