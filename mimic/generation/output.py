"""Write decoded frames to video files: the result, and the side-by-side video.

Legend: H height, W width. Frames are RGB uint8.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimic.generation.drivers import Driving, DrivingMaps
from mimic.generation.panels import Panels, frames_of_clip
from mimic.generation.reference import Reference
from mimic.progress import Progress
from mimic.video import AudioTrack
from mimic.video.audio import in_step
from mimic.video.folder import FrameWriter, open_writer
from mimic.video.formats import sibling


@dataclass(frozen=True)
class Output:
    """Paths, frame rate and audio of the video files to write."""

    path: Path
    side_by_side: Path | None
    fps: Fraction
    crf: int
    driving: Driving
    num_frames: int
    has_audio: bool

    @property
    def sound(self) -> AudioTrack | None:
        """Audio track of the driving clip at the speed of the result; None if the result has no audio."""
        clip = self.driving.clip
        if not self.has_audio or clip is None:
            return None
        return in_step(
            clip.path,
            start_s=self.driving.start_s,
            source_s=self.driving.source_seconds,
            result_s=float(self.num_frames / self.fps),
        )


@dataclass(frozen=True)
class Written:
    """Audio of a written video."""

    has_audio: bool
    """Whether the file has an audio track."""
    missing: str | None
    """Description of the part of the clip's audio that is missing in the file; None if nothing is missing."""


def side_by_side_path(path: Path) -> Path:
    """Return the path of the side-by-side video of a result."""
    return sibling(path, "_side_by_side")


def write_frames(
    frames: Iterable[NDArray[np.uint8]],
    output: Output,
    reference: Reference,
    maps: DrivingMaps,
    *,
    progress: Progress,
) -> Written:
    """Encode frames one by one while they are decoded.

    Files appear under their final names once all frames are written, even if writing the audio fails.

    Args:
        frames: uint8 ``H x W x 3`` each, without the reference frame.
        output: what to write.
        reference: for the side-by-side video.
        maps: driving maps, map 0 the reference's.
        progress: wraps the iteration over frames with a progress bar.

    Raises:
        VideoWriteError: a file cannot be written; the message names the file of the finished frames, if any.
    """
    with contextlib.ExitStack() as files:

        def opened(path: Path, height: int, width: int) -> FrameWriter:
            writer = open_writer(
                path,
                height=height,
                width=width,
                fps=output.fps,
                crf=output.crf,
                audio=output.sound,
                keep_unfinished=True,
            )
            return files.enter_context(writer)

        writer = opened(output.path, reference.height, reference.width)
        panels = writer_beside = None
        if output.side_by_side is not None:
            panels = Panels(
                reference,
                maps,
                output.driving.marks,
                clip=frames_of_clip(output.driving),
                map_label="skeleton" if output.driving.poses is not None else "body parts",
            )
            writer_beside = opened(output.side_by_side, panels.height, panels.width)
        for number, frame in enumerate(frames, start=1):
            writer.write(frame)
            if panels is not None and writer_beside is not None:
                writer_beside.write(panels.draw(number, frame))
            progress(number, output.num_frames)
    return Written(writer.has_audio, writer.missing)
