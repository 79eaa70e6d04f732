"""A decoded frame as a viewer sees it: cropped, upright, with square pixels, over white, in sRGB."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple, cast

import av
import numpy as np
from av.sidedata.sidedata import SideData
from av.sidedata.sidedata import Type as SideDataType
from numpy.typing import NDArray

from pose.video.hdr import is_hdr, tone_mapped

# The display matrix of each turn, degrees counter-clockwise.
_TURNS = {0: (1, 0, 0, 1), 90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), 270: (0, 1, -1, 0)}


class Crop(NamedTuple):
    """The part of a stored frame that is shown, pixels."""

    left: int
    top: int
    width: int
    height: int


Matrix = tuple[int, int, int, int]


class Orientation:
    """The display matrix of the frames of a film, looked up again only where their rotation changes.

    PyAV's side data refers to its frame and the frame to it: each lookup keeps a frame in memory until the
    garbage collector finds that circle, which may be hundreds of frames later.
    """

    def __init__(self) -> None:
        self._rotation: int | None = None
        self._matrix: Matrix = _TURNS[0]

    def __call__(self, frame: av.VideoFrame) -> Matrix:
        """Return the matrix of a frame."""
        if frame.rotation != self._rotation:
            self._rotation, self._matrix = frame.rotation, display_matrix(frame)
        return self._matrix


def shown_size(
    frame: av.VideoFrame,
    pixel_ratio: Fraction | None = None,
    crop: Crop | None = None,
    *,
    matrix: Matrix | None = None,
) -> tuple[int, int]:
    """(height, width) of a frame as it is shown."""
    stored = crop or Crop(0, 0, frame.width, frame.height)
    height, width = stored.height, _square(stored.width, pixel_ratio)
    is_turned = (matrix or display_matrix(frame))[0] == 0
    return (width, height) if is_turned else (height, width)


def upright_rgb(
    frame: av.VideoFrame,
    pixel_ratio: Fraction | None = None,
    crop: Crop | None = None,
    *,
    matrix: Matrix | None = None,
) -> NDArray[np.uint8]:
    """A decoded frame as it is shown, uint8 ``H x W x 3`` RGB.

    Args:
        pixel_ratio: width of a pixel over its height; None for 1.
        crop: the part that is shown; None for all.
        matrix: the display matrix, if already known.
    """
    has_alpha = (
        any(component.is_alpha for component in frame.format.components) or frame.format.name == "pal8"
    )
    kind = "rgb48le" if is_hdr(frame) else "rgba" if has_alpha else "rgb24"
    shown = frame.reformat(width=_square(frame.width, pixel_ratio), height=frame.height, format=kind)
    image = shown.to_ndarray()
    if crop is not None:
        left = round(crop.left * image.shape[1] / frame.width)
        image = image[crop.top : crop.top + crop.height, left : left + _square(crop.width, pixel_ratio)]
    if is_hdr(frame):
        image = tone_mapped(image.astype(np.uint16), frame.color_trc)
    elif has_alpha:
        image = over_white(np.asarray(image, np.uint8))
    a, b, c, d = matrix or display_matrix(frame)
    if a == 0:
        image, flip_x, flip_y = image.transpose(1, 0, 2), c < 0, b < 0
    else:
        flip_x, flip_y = a < 0, d < 0
    return np.ascontiguousarray(image[:: -1 if flip_y else 1, :: -1 if flip_x else 1], dtype=np.uint8)


def display_matrix(frame: av.VideoFrame) -> Matrix:
    """Signs of the 2x2 display matrix (a, b, c, d): a stored pixel (x, y) is shown at (ax + cy, bx + dy)."""
    try:
        side_data = list(cast(Iterable[SideData], frame.side_data))
    except ValueError:  # of a kind that PyAV does not know; the turn can be asked for alone
        return _TURNS.get(frame.rotation % 360, _TURNS[0])
    for data in side_data:
        if data.type == SideDataType.DISPLAYMATRIX:
            matrix = np.frombuffer(bytes(data)[:36], dtype=np.int32).reshape(3, 3)
            a, b, c, d = (int(np.sign(matrix[i, j])) for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)))
            if abs(int(matrix[0, 1])) > abs(int(matrix[0, 0])):
                return (0, b, c, 0)
            return (a, 0, 0, d)
    return (1, 0, 0, 1)


def over_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay uint8 ``… x 4`` RGBA over white: transparent parts become white, not the colour hidden beneath."""
    alpha = rgba[..., 3:].astype(np.uint16)
    blended = rgba[..., :3].astype(np.uint16) * alpha + 255 * (255 - alpha)
    return ((blended + 127) // 255).astype(np.uint8)


def _square(width: int, pixel_ratio: Fraction | None) -> int:
    """The width that stored columns take when their pixels are made square."""
    return max(1, round(width * pixel_ratio)) if pixel_ratio else width
