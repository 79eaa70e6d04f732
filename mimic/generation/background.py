"""Lay generated frames over the background of the reference picture, with a mask that follows the person.

Legend: H height, W width. Frames are RGB uint8, masks bool ``H x W``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from mimic.config import CaseSettings
from mimic.generation.drivers import Driver
from pose import PoseSequence
from pose.figure import figure_mask

MARGIN = 0.07  # body heights around the drawn figure: clothes, hair, and what the model draws beside the pose
FEATHER = 0.02  # of the picture's height: the standard deviation of the mask's soft edge


def check_background(settings: CaseSettings, driver: Driver) -> None:
    """Raise `ValueError` if the reference's background is asked of a driver that knows no skeletons."""
    if settings.background == "reference" and not driver.takes_poses:
        raise ValueError(
            "background: reference needs the skeletons of clip and picture, but this model is not driven by "
            "skeletons; use background: generated"
        )


@dataclass
class Steadiness:
    """How much the picture changes outside the person, in grey levels from 0 to 255."""

    changes: list[float] = field(default_factory=list)
    """Mean absolute difference of each frame from the one before."""
    drifts: list[float] = field(default_factory=list)
    """Mean absolute difference of each frame from the reference picture."""

    def as_dict(self) -> dict[str, float | None]:
        """Means over the clip for JSON; None where everything belongs to the person."""
        return {
            "flicker": round(float(np.mean(self.changes)), 3) if self.changes else None,
            "drift": round(float(np.mean(self.drifts)), 3) if self.drifts else None,
        }


class ReferenceBackground:
    """Lays frames over the reference picture and measures what that does outside the person.

    Where the person of the reference stood, the frame is kept as generated, since the background behind them
    is not known.

    Args:
        picture: the reference at the result's size, uint8 ``H x W x 3``.
        poses: poses passed to the model, frame 0 the reference's.
    """

    def __init__(self, picture: NDArray[np.uint8], poses: PoseSequence) -> None:
        self._picture, self._poses = picture, poses
        self.before, self.after = Steadiness(), Steadiness()
        self._figures = lru_cache(maxsize=4)(self._draw_figures)

    def lay_over(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames, from the first after the reference's, laid over the background."""
        last: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None
        for number, frame in enumerate(frames, start=1):
            share = self.mask(number)[..., None]
            laid = np.rint(share * frame + (1 - share) * self._picture).astype(np.uint8)
            outside = ~(self._figures(number) | self._figures(max(number - 1, 1)) | self._figures(0))
            if outside.any():
                for steadiness, now, place in ((self.before, frame, 0), (self.after, laid, 1)):
                    steadiness.drifts.append(_difference(now, self._picture, outside))
                    if last is not None:
                        steadiness.changes.append(_difference(now, last[place], outside))
            last = frame, laid
            yield laid

    def mask(self, number: int) -> NDArray[np.float32]:
        """Share of the generated frame in the result, float ``H x W`` from 0 to 1."""
        height, width = self._picture.shape[:2]
        figures = self._figures(number) | self._figures(0)
        sigma = max(0.5, FEATHER * height)
        reach = 2 * round(sigma) + 1  # the edge fades outside the figure, not within
        grown = cv2.dilate(figures.astype(np.float32), np.ones((reach, reach), np.uint8))
        soft = cv2.GaussianBlur(grown, (0, 0), sigma).reshape(height, width)
        return np.asarray(soft, np.float32)

    def as_dict(self) -> dict[str, dict[str, float | None]]:
        """Flicker and drift outside the person before and after, for JSON."""
        return {"generated": self.before.as_dict(), "laid_over_the_reference": self.after.as_dict()}

    def _draw_figures(self, frame: int) -> NDArray[np.bool_]:
        """The area of everybody in a frame and the ones beside it, with a margin."""
        height, width = self._picture.shape[:2]
        mask = np.zeros((height, width), np.bool_)
        frames = [0] if frame == 0 else range(max(1, frame - 1), min(frame + 2, len(self._poses)))
        for near in frames:
            for person in np.flatnonzero(self._poses.is_seen[near]):
                points, scores = self._poses.points[near, person], self._poses.scores[near, person]
                mask |= figure_mask(points, scores, height, width, margin=MARGIN)
        return mask


def _difference(one: NDArray[np.uint8], other: NDArray[np.uint8], where: NDArray[np.bool_]) -> float:
    return float(np.abs(one[where].astype(np.int16) - other[where].astype(np.int16)).mean())
