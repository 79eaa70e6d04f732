"""Animated WebP as a film, through Pillow: FFmpeg decodes still WebP alone."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pose.text import one_line
from pose.video.shown import upright_rgb
from pose.video.source import VideoError, check_size
from pose.video.timing import Timing

_ANIMATION_FLAG = 0x02
_SHORTEST_MS = 10


def is_animated_webp(path: Path) -> bool:
    """Whether the content is WebP with more than one frame."""
    with open(path, "rb") as file:
        head = file.read(21)
    is_extended = head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X"
    return is_extended and len(head) == 21 and bool(head[20] & _ANIMATION_FLAG)


class AnimatedWebP:
    """An animation with the interface of `pose.video.film.Film`."""

    codec = "webp"
    has_audio = False
    can_seek = False

    def __init__(self, path: Path) -> None:
        self.path = path

    def timing(self) -> Timing:
        """When the frames are shown, from the durations that the file states."""
        durations = np.array(_durations_ms(self.path), np.int64)
        if len(durations) == 0:
            raise VideoError(f"{self.path} holds no frames")
        starts = np.concatenate([[0], np.cumsum(durations)[:-1]])
        rate = Fraction(1000 * len(durations), int(durations.sum()))
        return Timing(times=starts / 1000, rate=rate, is_stamped=True)

    def frames(self, *, is_lenient: bool = False) -> Iterator[av.VideoFrame]:
        """Decode frame by frame; from a damaged frame on there are none, if lenient.

        Raises:
            OSError, EOFError: the file is damaged, and this is not the lenient pass.
        """
        shown_ms = 0
        with contextlib.ExitStack() as stack:
            if is_lenient:
                stack.enter_context(contextlib.suppress(OSError, EOFError))
            try:
                animation = stack.enter_context(Image.open(self.path))
            except Image.DecompressionBombError as error:
                raise VideoError(f"{self.path} is too large: {one_line(error)}") from error
            check_size(animation.height, animation.width, self.path)
            for number, duration in enumerate(_durations_ms(self.path)):
                animation.seek(number)
                rgba = np.asarray(animation.convert("RGBA"))
                frame = av.VideoFrame.from_ndarray(rgba, format="rgba")
                frame.pts, frame.time_base = shown_ms, Fraction(1, 1000)
                yield frame
                shown_ms += duration

    def size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """(height, width) as shown."""
        return frame.height, frame.width

    def shown(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """The frame laid over white."""
        return upright_rgb(frame)


def _durations_ms(path: Path) -> list[int]:
    """What the header of each frame states; nothing is decoded."""
    durations = []
    with open(path, "rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            kind, size = struct.unpack("<4sI", head)
            end = file.tell() + size + size % 2
            if kind == b"ANMF":
                frame = file.read(16)
                if len(frame) < 16:
                    break
                durations.append(max(int.from_bytes(frame[12:15], "little"), _SHORTEST_MS))
            file.seek(end)
    return durations
