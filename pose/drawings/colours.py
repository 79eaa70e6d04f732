"""Which colour of the drawing each pixel has, in a way that survives video compression.

Videos keep colour at half the resolution, so thin strokes lose saturation. The angle of their chroma remains,
and the 18 colours of the body lie about 20 degrees apart. Brightness is read from the luma.

Legend: N drawn pixels, C colours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose.skeletons import BODY_COLOURS, HAND_BONE_COLOURS

DRAWN_ABOVE = 12.0  # chroma or luma of 255
WHITE_BELOW = 0.16  # chroma as a fraction of the luma
MIN_WHITE_LUMA = 60.0
MAX_ANGLE = np.radians(12.0)
NO_COLOUR, WHITE = -1, -2

_TO_YUV = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


@dataclass(frozen=True)
class Palette:
    """Colours of a drawing, RGB.

    Args:
        body: colours ``18 x 3`` of the limbs and joints, by number.
        bones: colours ``20 x 3`` of the bones of a hand.
        knuckle: colour of the joints of a hand.
    """

    body: NDArray[np.float64]
    bones: NDArray[np.float64]
    knuckle: NDArray[np.float64]

    @classmethod
    def of(cls, *, is_exchanged: bool) -> Palette:
        """OpenPose's and DWPose's colours; exchanged: with red and blue swapped, as MimicMotion draws."""
        order = slice(None, None, -1) if is_exchanged else slice(None)
        body = np.array(BODY_COLOURS, dtype=np.float64)[:, order]
        bones = 255 * np.array(HAND_BONE_COLOURS)[:, order]
        return cls(body, bones, np.array([0.0, 0.0, 255.0])[order])


@dataclass(frozen=True)
class Ink:
    """The drawn pixels of a picture.

    Args:
        places: ``N x 2``, x and y of the pixels' centres.
        luma: ``N``, 0 to 255.
        chroma: ``N x 2``, blue and red difference.
        height, width: of the picture.
    """

    places: NDArray[np.float64]
    luma: NDArray[np.float64]
    chroma: NDArray[np.float64]
    height: int
    width: int

    @property
    def strength(self) -> NDArray[np.float64]:
        """``N``: length of the chroma."""
        return np.asarray(np.linalg.norm(self.chroma, axis=1))

    @property
    def is_white(self) -> NDArray[np.bool_]:
        """``N``: pixels of a white point."""
        return (self.luma > MIN_WHITE_LUMA) & (self.strength < WHITE_BELOW * self.luma)

    def nearest(self, colours: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return for each pixel the number of the colour (``C x 3``) of the nearest hue; -1: none is near."""
        own, wanted = angles(self.chroma), angles(chroma_of(colours))
        apart = np.abs((own[:, None] - wanted + np.pi) % (2 * np.pi) - np.pi)
        best = apart.argmin(axis=1)
        is_near = apart[np.arange(len(best)), best] < MAX_ANGLE
        return np.where(is_near & (self.strength > DRAWN_ABOVE) & ~self.is_white, best, NO_COLOUR)

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Ink:
        return Ink(self.places[chosen], self.luma[chosen], self.chroma[chosen], self.height, self.width)

    def __len__(self) -> int:
        return len(self.luma)


def ink_of(picture: NDArray[np.uint8]) -> Ink:
    """Return the drawn pixels of a picture on black, RGB uint8 ``H x W x 3``."""
    rows, columns = np.nonzero(picture.max(axis=2) > DRAWN_ABOVE)
    yuv = picture[rows, columns].astype(np.float64) @ _TO_YUV.T
    places = np.stack([columns, rows], axis=1).astype(np.float64)
    return Ink(places, yuv[:, 0], yuv[:, 1:], *picture.shape[:2])


def chroma_of(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chroma ``C x 2`` of colours ``C x 3``."""
    return np.asarray(colours @ _TO_YUV[1:].T)


def luma_of(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Luma ``C`` of colours ``C x 3``."""
    return np.asarray(colours @ _TO_YUV[0])


def angles(chroma: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angle of chroma ``N x 2`` in radians."""
    return np.asarray(np.arctan2(chroma[:, 1], chroma[:, 0]))
