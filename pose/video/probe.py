"""What a clip is before its frames are used: size as shown, frames, rate, duration, sound, faults."""

from __future__ import annotations

import functools
import logging
import os
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from pose.text import one_line
from pose.video.film import Film, open_film
from pose.video.source import VideoError, check_size
from pose.video.timing import HIGHEST_RATE, RATE_TOLERANCE, Timing
from pose.video.webp import AnimatedWebP

log = logging.getLogger("pose.video")


@dataclass(frozen=True)
class VideoInfo:
    """What `probe` finds.

    Args:
        path: the file.
        height, width: pixels of a frame as it is shown: cropped, turned upright, with square pixels.
        num_frames: frames in the file (from its packets; a damaged file may give fewer).
        fps: frames a second; of a clip with variable frame rate the average.
        start_s: time stamp of the first frame that can be shown, seconds.
        duration_s: seconds from the first frame to the end of the last.
        is_variable_rate: frames do not lie where a constant rate would put them.
        has_audio: there is a sound track that can be decoded.
        codec: name of the video codec.
        times: time stamps of the frames, seconds, as the packets promise them; empty where they do not.
        faults: what is wrong with the clip, a sentence each. `probe` enters what the packets tell; reading
            the frames adds the stretches that cannot be decoded.
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
    times: NDArray[np.float64] = field(repr=False, compare=False, default_factory=lambda: np.zeros(0))
    faults: list[str] = field(compare=False, default_factory=list)

    def note(self, fault: str) -> None:
        """Enter a fault, and log it the first time that it is found."""
        if fault not in self.faults:
            self.faults.append(fault)
            _tell(self.path, fault)


@functools.lru_cache(maxsize=1024)
def _tell(path: Path, fault: str) -> None:
    log.warning(f"{path}: {fault}")


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Read the packets and the first frame of a clip: anything FFmpeg reads, also animations and pictures.

    Raises:
        FileNotFoundError: there is no such file.
        VideoError: the file is not a clip that can be read.
    """
    path = Path(path)
    with open_film(path) as film:
        timing = film.timing()
    with open_film(path) as film:
        first = _first_frame(film)
        if first is None or len(timing.times) == 0:
            raise VideoError(f"{path} holds no frames")
        height, width = film.size(first)
        check_size(height, width, path)
        _check_whole(path, timing)
        has_audio, codec = film.has_audio, film.codec
    times, faults = _visible(timing, first)
    fps = replace(timing, times=times).frame_rate()
    if fps > HIGHEST_RATE:
        raise VideoError(
            f"{path} states {float(fps):.4g} frames a second; expected at most {HIGHEST_RATE}. Convert it"
        )
    num_frames = len(times)
    if timing.is_cut_off or timing.is_stream:
        num_frames = round(float(times[-1] - times[0]) * float(fps)) + 1
    ideal = times[0] + np.arange(len(times)) / float(fps)
    info = VideoInfo(
        path=path,
        height=height,
        width=width,
        num_frames=num_frames,
        fps=fps,
        start_s=float(times[0]),
        duration_s=float(times[-1] - times[0]) + 1 / float(fps),
        is_variable_rate=bool(np.abs(times - ideal).max() * float(fps) > RATE_TOLERANCE),
        has_audio=has_audio,
        codec=codec,
        times=times if timing.is_stamped else np.zeros(0),
    )
    for fault in faults:
        info.note(fault)
    return info


def _first_frame(film: Film | AnimatedWebP) -> av.VideoFrame | None:
    """The first picture that can be seen.

    Raises:
        VideoError: nothing can be decoded.
    """
    try:
        return next(film.frames(), None)
    except (av.error.FFmpegError, OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
    with open_film(film.path) as again:
        first = next(again.frames(is_lenient=True), None)
    if first is None:
        raise VideoError(f"{film.path} is damaged: its first frame cannot be decoded ({one_line(reason)})")
    return first


def _check_whole(path: Path, timing: Timing) -> None:
    """Refuse a file of which a tenth or more is missing.

    Raises:
        VideoError: frames that the header counts are not there.
    """
    num_left = len(timing.times) if not timing.num_cut_off else timing.num_stated - timing.num_cut_off
    is_short = num_left < 0.9 * timing.num_stated
    if is_short and (timing.num_cut_off or not _reaches_end(timing)):
        raise VideoError(
            f"{path} is cut off: {num_left} of its {timing.num_stated} frames are there. Copy it again"
        )


def _reaches_end(timing: Timing) -> bool:
    """Whether the frames last as long as the file says. Frames that show nothing new may be counted there and
    be empty (avi)."""
    if not timing.stated_s or len(timing.times) < 2:
        return False
    lasts = float(timing.times[-1] - timing.times[0]) + 2 * float(np.diff(timing.times).max())
    return lasts >= 0.98 * timing.stated_s


def _visible(timing: Timing, first: av.VideoFrame) -> tuple[NDArray[np.float64], list[str]]:
    """Times of the frames from the first one that can be seen, and what is missing of the clip."""
    times, faults = timing.times, []
    if timing.is_stamped and first.time is not None:
        tolerance = 0.5 / float(timing.frame_rate())
        visible = times[times >= first.time - tolerance]
        if 0 < len(visible) < len(times):
            faults.append(
                f"begins between key frames: its first {_seconds(visible[0] - times[0])} cannot be decoded, "
                f"and pictures and sound begin after them"
            )
            times = visible
    elif timing.num_undecodable and timing.is_even:
        faults.append(
            f"begins between key frames: its first {timing.num_undecodable} frames cannot be decoded"
        )
        times = times[: len(times) - timing.num_undecodable]
    if timing.num_cut_off:
        num_left = timing.num_stated - timing.num_cut_off
        faults.append(f"is cut off: {num_left} of its {timing.num_stated} frames are there")
    elif timing.is_cut_off:
        faults.append(f"is cut off: its last {_seconds(timing.missing_s)} are not there")
    if timing.num_recordings > 1:
        faults.append(
            f"its time stamps begin anew {timing.num_recordings - 1} times: read as "
            f"{timing.num_recordings} recordings, one after the other"
        )
    return times, faults


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s"
