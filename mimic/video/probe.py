"""What a clip is before a frame of it is used: size as shown, frames, rate, duration, sound."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.container
import av.error
import numpy as np
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType
from numpy.typing import NDArray

# A frame further than this from where an even rate would show it makes the rate variable (in intervals).
_RATE_TOLERANCE = 0.75


class VideoError(OSError):
    """A file that is no clip that can be read: not a video, damaged, without pictures."""


@dataclass(frozen=True)
class VideoInfo:
    """What `probe` finds.

    Args:
        path: the file.
        height, width: pixels of a frame as it is shown: turned upright, with square pixels.
        num_frames: frames in the file (from its packets; a damaged file may give fewer).
        fps: frames a second; of a clip with variable frame rate the average.
        start_s: time stamp of the first frame, seconds.
        duration_s: seconds from the first frame to the end of the last.
        is_variable_rate: frames do not lie where a constant rate would put them.
        has_audio: there is a sound track.
        codec: name of the video codec.
    """

    path: Path
    height: int
    width: int
    num_frames: int
    fps: Fraction
    start_s: float
    duration_s: float
    is_variable_rate: bool
    has_audio: bool
    codec: str


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Look at a clip (anything FFmpeg reads, also gif and single pictures): its packets and its first frame.

    Raises:
        FileNotFoundError: there is no such file.
        VideoError: the file is not a clip that can be read.
    """
    path = Path(path)
    with open_clip(path) as container:
        stream = container.streams.video[0]
        times = _packet_times(container, stream)
    with open_clip(path) as container:
        stream = container.streams.video[0]
        try:
            first = next(container.decode(stream), None)
        except av.error.FFmpegError as error:
            raise VideoError(
                f"{path} is damaged: its first frame cannot be decoded ({error.strerror})"
            ) from error
        if first is None or len(times) == 0:
            raise VideoError(f"{path} holds no frames")
        height, width = shown_size(first, stream)
        if len(times) < 0.9 * stream.frames and not _reaches_end(times, stream):
            raise VideoError(
                f"{path} is cut off: {len(times)} of its {stream.frames} frames are there. Copy it again"
            )
        fps = _frame_rate(times, stream)
        ideal = times[0] + np.arange(len(times)) / float(fps)
        return VideoInfo(
            path=path,
            height=height,
            width=width,
            num_frames=len(times),
            fps=fps,
            start_s=float(times[0]),
            duration_s=float(times[-1] - times[0]) + 1 / float(fps),
            is_variable_rate=bool(np.abs(times - ideal).max() * float(fps) > _RATE_TOLERANCE),
            has_audio=len(container.streams.audio) > 0,
            codec=stream.codec_context.name,
        )


def _reaches_end(times: NDArray[np.float64], stream: av.video.stream.VideoStream) -> bool:
    """Whether the frames last as long as the file says. Frames that show nothing new may be counted there and
    be empty (avi)."""
    if stream.duration is None or stream.time_base is None or len(times) < 2:
        return False
    lasts = float(times[-1] - times[0]) + 2 * float(np.diff(times).max())
    return lasts >= 0.98 * float(stream.duration * stream.time_base)


@contextmanager
def open_clip(path: str | os.PathLike[str]) -> Iterator[av.container.InputContainer]:
    """Open a clip for reading, saying in one sentence why that cannot be.

    Raises:
        FileNotFoundError: there is no such file.
        VideoError: it is not a clip, or has no pictures.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no video {path}")
    if path.is_dir():
        raise VideoError(f"{path} is a folder; expected a video file")
    try:
        container = av.open(str(path))
    except av.error.PermissionError as error:
        raise VideoError(f"{path} may not be read: permission denied") from error
    except av.error.FFmpegError as error:
        raise VideoError(
            f"{path} is not a video that can be read ({error.strerror}); it may be damaged or cut off"
        ) from error
    with container:
        if not container.streams.video:
            raise VideoError(f"{path} has no pictures, only {_kinds(container)}; expected a video")
        yield container


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """Signs of the 2x2 display matrix (a, b, c, d): a stored pixel (x, y) is shown at (ax + cy, bx + dy)."""
    for data in cast(Iterable[SideData], frame.side_data):
        if data.type == SideDataType.DISPLAYMATRIX:
            matrix = np.frombuffer(bytes(data)[:36], dtype=np.int32).reshape(3, 3)
            a, b, c, d = (int(np.sign(matrix[i, j])) for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)))
            if abs(int(matrix[0, 1])) > abs(int(matrix[0, 0])):
                return (0, b, c, 0)
            return (a, 0, 0, d)
    return (1, 0, 0, 1)


def square_pixel_width(frame: av.VideoFrame, stream: av.VideoStream) -> int:
    """The width that a stored frame has when its pixels are made square."""
    ratio = stream.sample_aspect_ratio
    return max(1, round(frame.width * ratio)) if ratio else frame.width


def shown_size(frame: av.VideoFrame, stream: av.VideoStream) -> tuple[int, int]:
    """(height, width) of a frame as it is shown."""
    height, width = frame.height, square_pixel_width(frame, stream)
    is_turned = display_matrix(frame)[0] == 0
    return (width, height) if is_turned else (height, width)


def _packet_times(container: av.container.InputContainer, stream: av.VideoStream) -> NDArray[np.float64]:
    """Time stamps of all frames, seconds, ascending; nothing is decoded."""
    stamps: list[int] = []
    try:
        for packet in container.demux(stream):
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None and packet.size > 0 and not packet.is_discard:
                stamps.append(stamp)
    except av.error.FFmpegError as error:
        if not stamps:
            raise VideoError(
                f"{container.name} is damaged: no frame can be read ({error.strerror})"
            ) from error
    base = stream.time_base if stream.time_base is not None else Fraction(1, 1000)
    return np.sort(np.array(stamps, dtype=np.float64)) * float(base)


def _frame_rate(times: NDArray[np.float64], stream: av.VideoStream) -> Fraction:
    """The container's rate where it explains the time stamps, the measured average where it does not."""
    stated = stream.average_rate or stream.guessed_rate
    intervals, span = len(times) - 1, float(times[-1] - times[0])
    if intervals < 1 or span <= 0:
        return Fraction(stated) if stated else Fraction(25)
    if stated and abs(float(stated) * span - intervals) <= _RATE_TOLERANCE:
        return Fraction(stated)
    return Fraction(intervals / span).limit_denominator(1001)


def _kinds(container: av.container.InputContainer) -> str:
    return ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
