"""Which stream of a file is its film, and can it be opened: one sentence says why not."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import av.container
import av.error
from av.stream import Disposition

from pose.text import one_line

# Streams that are no film: covers, thumbnails, and parts of a picture.
_STILLS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
# Tracks that go with another one, for somebody who cannot hear or see it, or that comment on it.
_SIDE_TRACKS = Disposition.comment | Disposition.hearing_impaired | Disposition.visual_impaired
_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}

# First bytes of parameter sets and delimiters (H.264), and kinds of such units (HEVC).
_H264_UNITS = (0x09, 0x27, 0x47, 0x67)
_HEVC_UNITS = (32, 33, 35)

MAX_SIDE = 20_000
MAX_PIXELS = 180_000_000


class VideoError(OSError):
    """A file that cannot be read as a video: not a video, damaged, or without pictures."""


def why_no_file(path: Path) -> str | None:
    """What a path is in place of a regular file ("a folder", "a named pipe"), without opening it.

    Raises:
        FileNotFoundError: nothing is there.
    """
    try:
        mode = path.stat().st_mode
    except PermissionError:
        return "in a folder that may not be read"
    except (OSError, ValueError) as error:  # also names that no file can have
        raise FileNotFoundError(str(path)) from error
    return next((name for is_kind, name in _KINDS.items() if is_kind(mode)), None)


def nearest_file(path: Path, pattern: str = "*", *, cutoff: float = 0.8) -> str:
    """Return ``; did you mean …?`` for the file with the most similar name in the same folder; empty without
    one that fits the pattern and is as similar as ``cutoff`` (of `difflib`)."""
    try:
        names = [entry.name for entry in path.parent.glob(pattern)]
    except (OSError, ValueError):
        return ""
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=cutoff)
    return f"; did you mean {one_line(path.with_name(near[0]), 200)}?" if near else ""


def _raw_format(path: Path) -> str | None:
    """H.264 or HEVC without a container, which a suffix would make FFmpeg take for something else."""
    with open(path, "rb") as file:
        head = file.read(5)
    begin = next((len(code) for code in (b"\0\0\0\1", b"\0\0\1") if head.startswith(code)), 0)
    if begin == 0 or len(head) <= begin:
        return None
    unit = head[begin]
    if unit in _H264_UNITS:
        return "h264"
    return "hevc" if unit >> 1 in _HEVC_UNITS else None


@contextmanager
def open_container(path: str | os.PathLike[str]) -> Iterator[av.container.InputContainer]:
    """Open a regular file with FFmpeg.

    Raises:
        FileNotFoundError: there is no such file.
        VideoError: it is not a regular file, or FFmpeg cannot read it.
    """
    path = Path(path)
    try:
        other = why_no_file(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no video {path}{nearest_file(path)}") from None
    if other is not None:
        raise VideoError(f"{path} is {other}; expected a video file")
    try:
        # The protocol is named because a name such as 12:30.mp4 would be taken for one.
        container = av.open(f"file:{path}", metadata_errors="replace", format=_raw_format(path))
    except (av.error.PermissionError, PermissionError) as error:
        raise VideoError(f"{path} may not be read: permission denied") from error
    except av.error.FFmpegError as error:
        raise VideoError(
            f"{path} is not a video that can be read ({error.strerror}); it may be damaged or cut off"
        ) from error
    with container:
        yield container


def film_of(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """The stream that is the film: no cover, no thumbnail; of several the default one, then the largest.

    Raises:
        VideoError: there is none that can be decoded, or its frames are larger than any memory holds.
    """
    film = _film_among(container, path)
    # Before the first frame: decoders of GIF and others take memory for the whole picture at once.
    check_size(film.codec_context.height, film.codec_context.width, path)
    return film


def _film_among(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    streams = list(container.streams.video)
    if not streams:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise VideoError(f"{path} has no pictures, only {kinds}; expected a video")
    films = [stream for stream in streams if not stream.disposition & _STILLS]
    if not films:
        raise VideoError(f"{path} has no film, only a cover picture; expected a video")
    films = [stream for stream in films if stream.codec_context is not None]
    if not films:
        raise VideoError(f"{path} cannot be decoded: FFmpeg has no decoder for its film. Convert it to H.264")
    if len(films) == 1:
        return films[0]
    num_frames = _first_counts(path, [stream.index for stream in films])

    def rank(stream: av.VideoStream) -> tuple[bool, bool, int, int]:
        is_default = bool(stream.disposition & Disposition.default)
        area = stream.codec_context.width * stream.codec_context.height
        return num_frames[stream.index] > 1, is_default, area, -stream.index

    return max(films, key=rank)


def sound_tracks(container: av.container.InputContainer) -> list[av.AudioStream]:
    """The sound tracks that have a decoder, the best one first: default, then in the file's order."""
    tracks = [stream for stream in container.streams.audio if stream.codec_context is not None]
    return sorted(
        tracks,
        key=lambda track: (
            bool(track.disposition & _SIDE_TRACKS),
            not track.disposition & Disposition.default,
        ),
    )


def check_size(height: int, width: int, path: Path) -> None:
    """Refuse sizes that no clip has and no memory holds.

    Raises:
        VideoError: a side or the number of pixels is beyond the limits.
    """
    if max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
        raise VideoError(
            f"{path} would be shown at {width}x{height} pixels; expected sides of at most {MAX_SIDE} and at "
            f"most {MAX_PIXELS // 10**6} million pixels. Convert it to a smaller size"
        )


def _first_counts(path: Path, indices: list[int]) -> dict[int, int]:
    """For each stream its number of frames, counted as far as 2."""
    counts = dict.fromkeys(indices, 0)
    with open_container(path) as container:
        try:
            for packet in container.demux([container.streams[index] for index in indices]):
                counts[packet.stream.index] += packet.size > 0
                if min(counts.values()) > 1:
                    break
        except av.error.FFmpegError:
            pass  # what was counted so far decides
    return counts
