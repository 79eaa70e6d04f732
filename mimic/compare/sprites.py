"""Sprites: a clip as one picture, frame beside frame, to embed in a page."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_FRAMES = 96
MAX_SIDE = 256
COLUMNS = 12


@dataclass(frozen=True)
class Sprite:
    """Frames in rows of `COLUMNS`."""

    data_url: str
    width: int
    height: int
    num_frames: int


def make_sprite(frames: Iterable[NDArray[np.uint8]], num_frames: int) -> Sprite:
    """A JPEG of a clip's frames ``H x W x 3``, the longer side at most `MAX_SIDE` and `MAX_FRAMES` of them.

    Args:
        num_frames: length of the clip; of a long one every N-th frame is kept (`shown_frames`).
    """
    wanted = set(shown_frames(num_frames))
    shown: list[NDArray[np.uint8]] = []
    for number, frame in enumerate(frames):
        if number in wanted:
            shown.append(_shrunk(frame))
    height, width = shown[0].shape[:2]
    columns = min(COLUMNS, len(shown))
    sheet = np.zeros((math.ceil(len(shown) / columns) * height, columns * width, 3), np.uint8)
    for number, frame in enumerate(shown):
        top, left = number // columns * height, number % columns * width
        sheet[top : top + height, left : left + width] = frame
    return Sprite(data_url(sheet), width, height, len(shown))


def shown_frames(num_frames: int) -> list[int]:
    """Which frames of a clip are shown: all, or as many as `MAX_FRAMES`, evenly."""
    step = math.ceil(num_frames / MAX_FRAMES)
    return list(range(0, num_frames, step))


def data_url(picture: NDArray[np.uint8]) -> str:
    """A picture as a JPEG inside a URL."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=88, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _shrunk(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = MAX_SIDE / max(frame.shape[:2])
    if scale >= 1:
        return frame
    size = round(frame.shape[1] * scale), round(frame.shape[0] * scale)
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)
