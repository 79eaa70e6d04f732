"""The side-by-side video: reference, driving clip, driving map and result in labelled panels.

Legend: H height, W width. Pictures are RGB uint8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from mimic.generation.drivers import Driving, DrivingMaps
from mimic.generation.reference import Reference
from mimic.video import read_frames

SIDE_BY_SIDE_MIN_HEIGHT = 384
MOST_PANELS = 4
STRIP = 24
"""Height in pixels of the strip above the panels that holds their labels."""
MARK_COLOUR = (255, 160, 0)
"""Colour of the bar above driving maps whose poses are doubtful."""
_STRIP_COLOUR, _LABEL_COLOUR = 24, (235, 235, 235)

Picture = NDArray[np.uint8]


def enlargement(height: int) -> int:
    """Return the factor by which the panels of the side-by-side video are larger than the result."""
    return -(-SIDE_BY_SIDE_MIN_HEIGHT // height)


def num_panels(width: int, *, of_result: tuple[int, int]) -> int:
    """Return the number of panels of a side-by-side video from its width and the result's (height, width)."""
    height, result_width = of_result
    return width // (enlargement(height) * result_width)


class Panels:
    """Draws panels of the result's shape, enlarged if small, with a strip of labels above them.

    Marked driving frames, numbered from 0, get a coloured bar with their label above the driving map.
    """

    def __init__(
        self,
        reference: Reference,
        maps: DrivingMaps,
        marks: Mapping[int, str] | None = None,
        *,
        clip: Iterator[Picture] | None = None,
        map_label: str = "skeleton",
    ) -> None:
        """Prepare the panels.

        Args:
            reference: the reference, at the size of the result.
            maps: driving maps, map 0 the reference's.
            marks: labels of doubtful driving frames.
            clip: driving frames of any size, the first one that of result frame 1; None leaves their panel
                out. They are read one by one, so that frames have to be drawn in order.
            map_label: label of the panel with the maps.
        """
        self._marks = marks or {}
        self._factor = enlargement(reference.height)
        self._size = self._factor * reference.height, self._factor * reference.width
        self._reference = reference.enlarged(self._factor)
        self._maps = maps.resized(*self._size)
        self._clip = clip
        self._clip_frame = np.zeros((*self._size, 3), np.uint8)
        labels = ["reference", *(["driving clip"] if clip is not None else []), map_label, "result"]
        self._strip = np.concatenate([_label(text, self._size[1]) for text in labels], axis=1)
        self.height, self.width = STRIP + self._size[0], len(labels) * self._size[1]

    def draw(self, number: int, frame: Picture) -> Picture:
        """Draw the panels of result frame ``number``; 1 is the first frame after the reference's."""
        height, width = self._size
        if self._factor > 1:
            frame = np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
        drawn = self._maps.draw(number)
        if number - 1 in self._marks:
            drawn = _marked(drawn, self._marks[number - 1])
        panels = [self._reference, drawn, frame]
        if self._clip is not None:
            panels.insert(1, self._next_of_clip())
        return np.concatenate([self._strip, np.concatenate(panels, axis=1)])

    def _next_of_clip(self) -> Picture:
        """Return the next driving frame, whole, on black; the last one again where the clip has ended."""
        assert self._clip is not None
        found = next(self._clip, None)
        if found is not None:
            self._clip_frame = _whole_on_black(found, *self._size)
        return self._clip_frame


def frames_of_clip(driving: Driving) -> Iterator[Picture] | None:
    """Return the frames of the clip that drove; None if poses were given, or if the clip is the maps."""
    if driving.clip is None or not driving.shows_clip:
        return None
    return iter(
        read_frames(
            driving.clip.path,
            first_frame=driving.first_frame,
            stride=driving.stride,
            max_frames=driving.num_frames,
            info=driving.clip,
        )
    )


def _whole_on_black(picture: Picture, height: int, width: int) -> Picture:
    """Resize a picture so that all of it is in the middle of a panel."""
    factor = min(height / picture.shape[0], width / picture.shape[1])
    size = tuple(max(1, round(factor * side)) for side in picture.shape[:2])
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    panel = np.zeros((height, width, 3), np.uint8)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    panel[top : top + size[0], left : left + size[1]] = cv2.resize(picture, size[::-1], interpolation=how)
    return panel


def _label(text: str, width: int) -> Picture:
    """Draw a label, smaller if the panel is too narrow for it."""
    strip = np.full((STRIP, width, 3), _STRIP_COLOUR, np.uint8)
    scale, margin = 0.5, 8
    (needed, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    scale *= min(1.0, (width - 2 * margin) / needed)
    cv2.putText(strip, text, (margin, 17), cv2.FONT_HERSHEY_SIMPLEX, scale, _LABEL_COLOUR, 1, cv2.LINE_AA)
    return strip


def _marked(panel: Picture, label: str) -> Picture:
    """Return the panel with a bar at its top that shows a label."""
    panel = panel.copy()
    bar = max(16, panel.shape[0] // 16)
    panel[:bar] = MARK_COLOUR
    scale = bar / 32
    place = (bar // 3, round(0.72 * bar))
    cv2.putText(
        panel, label, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), max(1, bar // 16), cv2.LINE_AA
    )
    return panel
