"""A clip as a stream of upright RGB frames: one at a time, at an even rate, each where it belongs in time."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import av
import av.error
import cv2
import numpy as np
from numpy.typing import NDArray

from pose.text import one_line
from pose.types import PoseError
from pose.video.film import ONE_FRAME_A_PACKET, Film, open_film
from pose.video.probe import VideoInfo, probe
from pose.video.source import VideoError
from pose.video.webp import AnimatedWebP

Decoded = tuple[av.VideoFrame, Film | AnimatedWebP]
_MAX_NAMED = 4


def read_frames(
    path: str | os.PathLike[str],
    *,
    first_frame: int = 0,
    stride: int = 1,
    max_frames: int | None = None,
    info: VideoInfo | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Decode lazily: every ``stride``-th frame from ``first_frame`` on, at most ``max_frames`` of them.

    Frames are uint8 ``H x W x 3`` RGB: cropped as the file says, turned upright, with square pixels,
    interlaced ones made whole, high dynamic range tone-mapped, transparent ones laid over white. A clip of
    variable frame rate is put on an even grid at its average rate (each tick shows the frame that is on
    screen then), so that movements keep their timing; at a constant rate every frame is used as it comes.
    Where frames cannot be decoded, the one before is held, which is logged and entered into ``info.faults``.
    One frame is in memory at a time. Frames before ``first_frame`` are decoded too, so that the frames are
    the same wherever reading begins.

    Args:
        info: what `probe(path)` found, where the caller has it already.

    Raises:
        FileNotFoundError: there is no such file.
        VideoError: the file is no clip, or nothing of it can be decoded.
    """
    info = info or probe(path)
    num_given = 0
    gaps = Gaps(info)
    placed = (_on_even_grid if info.is_variable_rate else _without_gaps)(_decoded(info), info, gaps)
    try:
        for index, (frame, film) in enumerate(placed):
            if index < first_frame or (index - first_frame) % stride:
                continue
            yield _of_size(film.shown(frame), info)
            num_given += 1
            if num_given == max_frames:
                return
    finally:
        placed.close()
        gaps.tell()


def _of_size(image: NDArray[np.uint8], info: VideoInfo) -> NDArray[np.uint8]:
    """A frame at the clip's size: where a stream changes its own midway, resized as a whole, over black."""
    size = info.height, info.width
    if image.shape[:2] == size:
        return image
    info.note(
        f"changes its size midway, to {image.shape[1]}x{image.shape[0]}; shown at {info.width}x{info.height}"
    )
    factor = min(size[0] / image.shape[0], size[1] / image.shape[1])
    high, wide = (max(1, round(side * factor)) for side in image.shape[:2])
    resized = cv2.resize(
        image, (wide, high), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    )
    canvas = np.zeros((*size, 3), np.uint8)
    top, left = (size[0] - high) // 2, (size[1] - wide) // 2
    canvas[top : top + high, left : left + wide] = resized
    return canvas


def _decoded(info: VideoInfo) -> Generator[Decoded, None, None]:
    """Frames from the first visible one on. A clip that turns out to be damaged is decoded again on one
    thread, where exactly the damaged packets are lost, and what was given is left out."""
    num_given = 0
    for is_lenient in (False, True):
        with open_film(info.path) as film:
            if isinstance(film, Film):
                film.stream.thread_type = "NONE" if is_lenient else "AUTO"
            try:
                for number, frame in enumerate(film.frames(is_lenient=is_lenient)):
                    if number >= num_given:
                        num_given += 1
                        yield frame, film
                break
            except (av.error.FFmpegError, OSError, EOFError) as error:
                if is_lenient:
                    raise VideoError(
                        f"{info.path} is damaged after {num_given} frames ({one_line(error)})"
                    ) from error
    if num_given == 0:
        raise VideoError(f"{info.path} holds no frame that can be decoded")


def _without_gaps(frames: Iterator[Decoded], info: VideoInfo, gaps: Gaps) -> Generator[Decoded, None, None]:
    """Frames of a clip of constant rate as they come; where some are missing, the one before is held."""
    fps, times = float(info.fps), info.times
    is_told = info.codec in ONE_FRAME_A_PACKET and len(times) > 0
    held: Decoded | None = None
    num_given = 0
    for decoded in frames:
        time = _time_of(decoded)
        num_missing = 0
        if time is not None:
            place = int(np.searchsorted(times, time - 0.25 / fps))
            if is_told and place < len(times) and abs(times[place] - time) < 0.25 / fps:
                num_missing = place - num_given
            else:
                num_missing = int((time - info.start_s) * fps - num_given - 0.75)
        if held is not None and num_missing > 0:
            gaps.add(num_given, num_missing)
            yield from itertools.repeat(held, num_missing)
            num_given += num_missing
        yield decoded
        num_given += 1
        held = decoded
    if held is not None and is_told and _time_of(held) is not None and num_given < info.num_frames:
        gaps.add(num_given, info.num_frames - num_given)
        yield from itertools.repeat(held, info.num_frames - num_given)


def _on_even_grid(frames: Iterator[Decoded], info: VideoInfo, gaps: Gaps) -> Generator[Decoded, None, None]:
    """Repeat and drop frames so that tick n shows what is on screen n / fps after the start."""
    fps, times = float(info.fps), info.times
    is_told = info.codec in ONE_FRAME_A_PACKET and len(times) > 0
    held: Decoded | None = None
    tick = num_passed = 0
    for decoded in frames:
        stamp = _time_of(decoded)
        time = stamp if stamp is not None else info.start_s + tick / fps
        place = int(np.searchsorted(times, time - 0.25 / fps))
        if is_told and stamp is not None and num_passed < place:
            gaps.add(tick + 1, round((time - times[num_passed]) * fps))
        num_passed = max(num_passed, place) + 1
        while held is not None and info.start_s + (tick + 0.5) / fps < time:
            yield held
            tick += 1
        held = decoded
    if held is None:
        return
    yield held
    last = _time_of(held)
    if is_told and last is not None and times[-1] - last > 0.75 / fps:
        num_missing = round((times[-1] - last) * fps)
        gaps.add(tick + 1, num_missing)
        yield from itertools.repeat(held, num_missing)


def _time_of(decoded: Decoded) -> float | None:
    time = decoded[0].time
    return time if time is not None and math.isfinite(time) else None


class Gaps:
    """Stretches of a clip that cannot be decoded, told in one sentence at the end."""

    def __init__(self, info: VideoInfo) -> None:
        self._info = info
        self._frames: list[list[int]] = []  # [first, one after the last]

    def add(self, first: int, num_frames: int) -> None:
        """Enter ``num_frames`` missing frames from number ``first`` on."""
        if self._frames and first <= self._frames[-1][1]:
            self._frames[-1][1] = first + num_frames
        elif num_frames > 0:
            self._frames.append([first, first + num_frames])

    def tell(self) -> None:
        """Note the gaps in the clip's faults."""
        if not self._frames:
            return
        fps = float(self._info.fps)
        stretches = [f"{first / fps:.2f} to {end / fps:.2f} s" for first, end in self._frames]
        named = ", ".join(stretches[:_MAX_NAMED])
        more = f" and {len(stretches) - _MAX_NAMED} other stretches" if len(stretches) > _MAX_NAMED else ""
        self._info.note(
            f"cannot be decoded from {named}{more}; the picture before is shown there, so that all else "
            "keeps its time"
        )


class VideoReader:
    """Every `stride`-th frame of a video, as `read_frames` gives them; can be iterated again and again.

    Args:
        path: any video or animation that FFmpeg reads.
        stride: 1 reads every frame, 2 every other.
        max_frames: stop after this many frames (counted after the stride).

    Attributes:
        info: what `probe` found.
        fps: frames a second after the stride.
        total: the number of frames to expect; it may be off for codecs that hide frames.

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
        self.stride, self.max_frames = stride, max_frames
        try:
            self.info = probe(path)
        except VideoError as error:
            raise PoseError(f"{self.path} cannot be read as a video: {one_line(error)}") from error
        self.fps: float = float(self.info.fps / stride)
        expected = -(-self.info.num_frames // stride)
        self.total: int | None = min(expected, max_frames or expected)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        try:
            yield from read_frames(self.path, stride=self.stride, max_frames=self.max_frames, info=self.info)
        except VideoError as error:
            raise PoseError(str(error)) from error
