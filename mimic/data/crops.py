"""Geometry of a sample: crop, mirroring and size, applied alike to frames, reference, poses and masks.

Coordinates are those of poses: 0 is the left (upper) edge of the picture, 1 the right (lower) edge, so that
cropping, mirroring and resizing are exact for points and for pixels.

Legend: F frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pose import PoseSequence
from pose.skeletons import BODY, MIRROR, VISIBLE_ABOVE

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Geometry:
    """A box of whole pixels of the source, optionally mirrored, resized to ``height x width``."""

    left: int
    top: int
    box_width: int
    box_height: int
    height: int
    width: int
    is_flipped: bool = False

    def picture(self, image: Image) -> Image:
        """Apply the geometry to a picture of the source, uint8 ``h x w x 3`` to ``height x width x 3``.

        Pictures are reduced by area averaging, which avoids flicker of fine patterns, and enlarged
        bilinearly.
        """
        return self._resized(image, cv2.INTER_AREA if self._is_reduction else cv2.INTER_LINEAR)

    def labels(self, image: Image) -> Image:
        """Apply the geometry to a picture whose colours are labels, with nearest-neighbour interpolation."""
        return self._resized(image, cv2.INTER_NEAREST_EXACT)

    def pictures(self, images: Sequence[Image]) -> Image:
        """Apply the geometry to several pictures, uint8 ``F x height x width x 3``."""
        return np.stack([self.picture(image) for image in images])

    def poses(self, sequence: PoseSequence) -> PoseSequence:
        """Apply the geometry to poses of the source's frames."""
        size = np.array([sequence.width, sequence.height], float)
        box = np.array([self.box_width, self.box_height], float)
        points = (sequence.points * size - [self.left, self.top]) / box
        scores = sequence.scores
        if self.is_flipped:
            points = points[:, :, MIRROR]
            points[..., 0] = 1 - points[..., 0]
            scores = scores[:, :, MIRROR]
        return replace(sequence, points=points, scores=scores, height=self.height, width=self.width)

    @property
    def _is_reduction(self) -> bool:
        return self.box_height >= self.height and self.box_width >= self.width

    def _resized(self, image: Image, interpolation: int) -> Image:
        part = image[self.top : self.top + self.box_height, self.left : self.left + self.box_width]
        if self.is_flipped:
            part = part[:, ::-1]
        part = np.ascontiguousarray(part)
        if part.shape[:2] == (self.height, self.width):
            return part
        return np.asarray(cv2.resize(part, (self.width, self.height), interpolation=interpolation), np.uint8)


def choose_geometry(
    source_size: tuple[int, int],
    size: tuple[int, int],
    *,
    zoom: float = 1.0,
    place: tuple[float, float] = (0.5, 0.5),
    centre: tuple[float, float] | None = None,
    is_flipped: bool = False,
) -> Geometry:
    """Choose the largest box with the aspect ratio of `size`, reduced by `zoom`.

    The box consists of whole pixels, so the aspect ratio may change by the rounding of one pixel; poses are
    changed in the same way.

    Args:
        source_size, size: (height, width) of the source's frames and of the sample in pixels.
        zoom: factor by which the box is smaller than the largest one, at least 1.
        place: (x, y) position of the box within its range: 0 left or top, 1 right or bottom.
        centre: (x, y) centre of the box in fractions of the frame, instead of `place`; moved as far as
            necessary to keep the box inside the frame.
        is_flipped: mirror the box.
    """
    source_height, source_width = source_size
    height, width = size
    scale = min(source_height / height, source_width / width) / zoom
    box_height = min(max(round(height * scale), 1), source_height)
    box_width = min(max(round(width * scale), 1), source_width)
    room = (source_width - box_width, source_height - box_height)
    if centre is None:
        left, top = (round(share * free) for share, free in zip(place, room))
    else:
        wanted = (centre[0] * source_width - box_width / 2, centre[1] * source_height - box_height / 2)
        left, top = (round(min(max(at, 0), free)) for at, free in zip(wanted, room))
    return Geometry(left, top, box_width, box_height, height, width, is_flipped)


def person_centre(sequence: PoseSequence) -> tuple[float, float] | None:
    """Return the centre (x, y) of a person over a clip in fractions of the frame; None if nobody is seen.

    It is the midpoint between the 2nd and the 98th percentile of the coordinates of body joints, so that a
    few false joints have no effect.
    """
    points = sequence.points[:, :, BODY][sequence.scores[:, :, BODY] > VISIBLE_ABOVE]
    if len(points) == 0:
        return None
    low, high = np.percentile(points, [2, 98], axis=0)
    return float((low[0] + high[0]) / 2), float((low[1] + high[1]) / 2)


def shows_person(sequence: PoseSequence) -> NDArray[np.bool_]:
    """Return whether each frame shows at least three joints of a body, ``F``."""
    points, scores = sequence.points[:, :, BODY], sequence.scores[:, :, BODY]
    is_seen = (scores > VISIBLE_ABOVE) & ((points >= 0) & (points <= 1)).all(axis=-1)
    return np.asarray(is_seen.sum(axis=-1).max(axis=1, initial=0) >= 3)
