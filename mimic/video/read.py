"""A clip as a stream of upright RGB frames: one at a time, at an even rate, every so-many-th."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from mimic.video.images import over_white
from mimic.video.probe import VideoError, VideoInfo, display_matrix, open_clip, probe, square_pixel_width


def released_stride(sample_stride: int, fps: float | Fraction) -> int:
    """How many frames of the clip one driving frame stands for: ``sample_stride * max(1, int(fps / 24))``.

    The meaning that `sample_stride` has in the released MimicMotion: a 30 fps clip at stride 2 gives 15 a
    second, and so does a 60 fps clip.
    """
    return sample_stride * max(1, int(fps / 24))


def read_frames(
    path: str | os.PathLike[str],
    *,
    first_frame: int = 0,
    stride: int = 1,
    max_frames: int | None = None,
    info: VideoInfo | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Decode a clip lazily: from frame `first_frame` on every ``stride``-th, at most ``max_frames`` of them.

    Frames are uint8 ``H x W x 3`` RGB, turned upright by the display matrix and given square pixels;
    transparent ones are laid over white. A clip of variable frame rate is first put on an even grid at its
    average rate (each tick shows the frame that is on screen then), so that movements keep their timing; at a
    constant rate every frame is used as it comes. One frame is held in memory at a time. What lies before
    ``first_frame`` is decoded too, so that the frames are the same wherever reading begins.

    Args:
        info: what `probe(path)` found, where the caller has it already.

    Raises:
        FileNotFoundError: there is no such file.
        VideoError: the file is no clip, or is damaged at some frame, which is named.
    """
    info = info or probe(path)
    num_given = 0
    with open_clip(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        frames: Iterable[av.VideoFrame] = _decoded(container.decode(stream), path)
        if info.is_variable_rate:
            frames = _on_even_grid(frames, info)
        for index, frame in enumerate(frames):
            if index < first_frame or (index - first_frame) % stride:
                continue
            yield upright_rgb(frame, stream)
            num_given += 1
            if num_given == max_frames:
                return


def _decoded(frames: Iterator[av.VideoFrame], path: str | os.PathLike[str]) -> Iterator[av.VideoFrame]:
    num_decoded = 0
    while True:
        try:
            frame = next(frames)
        except StopIteration:
            return
        except av.error.FFmpegError as error:
            raise VideoError(
                f"{path} is damaged after {num_decoded} frames ({error.strerror}). Convert it to a new file, "
                f"or use only its beginning with max_frames"
            ) from error
        num_decoded += 1
        yield frame


def _on_even_grid(frames: Iterable[av.VideoFrame], info: VideoInfo) -> Iterator[av.VideoFrame]:
    """Repeat and drop frames so that tick n shows what is on screen n / fps after the start."""
    held: av.VideoFrame | None = None
    tick = 0
    for frame in frames:
        time = frame.time if frame.time is not None else info.start_s + tick / float(info.fps)
        while held is not None and info.start_s + (tick + 0.5) / float(info.fps) < time:
            yield held
            tick += 1
        held = frame
    if held is not None:
        yield held


def upright_rgb(frame: av.VideoFrame, stream: av.VideoStream) -> NDArray[np.uint8]:
    """A decoded frame as it is shown: turned upright, square pixels, over white, uint8 ``H x W x 3``."""
    has_alpha = (
        any(component.is_alpha for component in frame.format.components) or frame.format.name == "pal8"
    )
    shown = frame.reformat(
        width=square_pixel_width(frame, stream), height=frame.height, format="rgba" if has_alpha else "rgb24"
    )
    image = np.asarray(shown.to_ndarray(), dtype=np.uint8)
    if has_alpha:
        image = over_white(image)
    a, b, c, d = display_matrix(frame)
    if a == 0:
        image, flip_x, flip_y = image.transpose(1, 0, 2), c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    return np.ascontiguousarray(image[:: -1 if flip_y else 1, :: -1 if flip_x else 1])
