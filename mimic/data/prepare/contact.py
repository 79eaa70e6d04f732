"""Draw the contact sheet, to be viewed before training: frames of random clips with their skeletons."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mimic.data.index import PreparedClip
from mimic.data.prepare.people import is_seen
from mimic.video import read_frames
from pose import PoseError
from pose.draw import overlay_frame

Image = NDArray[np.uint8]

NUM_PICTURES = 24
MIN_PICTURES = 12
"""Number of pictures on the sheet; with fewer clips, several frames of each are shown."""
CELL = 320
"""Longer side of a picture in pixels."""

_CAPTION_HEIGHT = 40
_GAP = 6
_PAPER, _INK = 24, 225
_CANVAS = 640  # canvas of the skeleton; on a smaller canvas, its lines are thicker
_TEXT_SCALE = 0.42


def contact_sheet(clips: Sequence[PreparedClip], *, seed: int) -> Image:
    """Draw frames of clips chosen by `seed` on one sheet, RGB uint8 ``H x W x 3``.

    A clip whose frames or poses can no longer be read gets an empty picture with its name.
    """
    return arranged([_picture(clip, frame) for clip, frame in chosen(clips, seed)])


def chosen(clips: Sequence[PreparedClip], seed: int) -> list[tuple[PreparedClip, int]]:
    """Choose the clips to show, each with the index of a frame in the clip."""
    rng = np.random.default_rng(seed)
    picks = sorted(rng.choice(len(clips), size=min(len(clips), NUM_PICTURES), replace=False).tolist())
    num_each = max(1, MIN_PICTURES // max(1, len(picks)))
    found: list[tuple[PreparedClip, int]] = []
    for pick in picks:
        try:
            seen = np.flatnonzero(is_seen(clips[pick].load_poses()))
        except (OSError, PoseError):  # removed after they were prepared
            seen = np.zeros(1, np.int64)
        frames = rng.choice(seen, size=min(num_each, len(seen)), replace=False)
        found.extend((clips[pick], int(frame)) for frame in sorted(frames.tolist()))
    return found


def arranged(pictures: Sequence[Image]) -> Image:
    """Arrange pictures of one size in a grid that is slightly wider than high."""
    num_columns = min(len(pictures), max(1, math.ceil(math.sqrt(1.4 * len(pictures)))))
    num_rows = math.ceil(len(pictures) / num_columns)
    height, width = pictures[0].shape[:2]
    shape = (num_rows * (height + _GAP) + _GAP, num_columns * (width + _GAP) + _GAP, 3)
    sheet = np.full(shape, _PAPER, dtype=np.uint8)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, num_columns)
        top, left = _GAP + row * (height + _GAP), _GAP + column * (width + _GAP)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def _picture(clip: PreparedClip, number: int) -> Image:
    """Draw one cell: a frame with its skeleton, and a caption below."""
    cell = np.full((CELL + _CAPTION_HEIGHT, CELL, 3), _PAPER, dtype=np.uint8)
    lines: tuple[str, ...] = _caption(clip, number)
    try:
        drawn = _drawn(clip, number)
    except MemoryError:
        raise
    except Exception:  # the file has been moved or changed; the index does not depend on this picture
        lines = (*lines, "can no longer be read")
    else:
        height, width = drawn.shape[:2]
        top, left = (CELL - height) // 2, (CELL - width) // 2
        cell[top : top + height, left : left + width] = drawn
    for line, text in enumerate(lines):
        place = (4, CELL + 15 + 16 * (line if line < 2 else -10))
        cv2.putText(
            cell, text, place, cv2.FONT_HERSHEY_SIMPLEX, _TEXT_SCALE, (_INK,) * 3, 1, lineType=cv2.LINE_AA
        )
    return cell


def _drawn(clip: PreparedClip, number: int) -> Image:
    """Draw a frame with its skeleton; its longer side is `CELL` pixels."""
    frame = next(read_frames(clip.video_path, first_frame=clip.first_frame + number, max_frames=1))
    poses = clip.load_poses()[number]
    scale = CELL / max(frame.shape[:2])
    height, width = (max(1, round(side * scale)) for side in frame.shape[:2])
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(frame, (width, height), interpolation=interpolation), dtype=np.uint8)
    return overlay_frame(small, poses.points[0], poses.scores[0], canvas_short_side=_CANVAS)


def _caption(clip: PreparedClip, number: int) -> tuple[str, str]:
    name = clip.clip if len(clip.clip) <= 36 else "..." + clip.clip[-33:]
    facts = f"body {clip.body_confidence:.2f} hands {clip.hand_confidence:.2f}"
    return name, f"{clip.split} frame {clip.first_frame + number}  {facts}"
