"""Poses to pictures: how a skeleton is drawn so that a pose network reads joints and confidence from it.

The drawing is that of the released MimicMotion code, pixel for pixel, at its canvas of 2160 pixels.
Strokes have a fixed width in pixels of the canvas, so that a smaller canvas gives bolder strokes.

Legend: F frames, P people, K = 134 points, H height, W width.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.skeletons import (
    BODY,
    BODY_COLOURS,
    BODY_LIMBS,
    FACE,
    HAND_BONE_COLOURS,
    HAND_BONES,
    HANDS,
    VISIBLE_ABOVE,
)
from pose.text import shown
from pose.types import NUM_POINTS, PoseError, PoseSequence

DrawMode = Literal["confidence", "binary"]

RELEASED_CANVAS_SHORT_SIDE = 2160

LIMB_HALF_WIDTH = 4
BODY_JOINT_RADIUS = 4
HAND_BONE_WIDTH = 2
HAND_JOINT_RADIUS = 4
FACE_POINT_RADIUS = 3
LIMB_BRIGHTNESS = 0.6

_CLEARED_MARGIN = 2 * LIMB_HALF_WIDTH + 4  # rows beyond the outermost point that a stroke may touch
_FAR_OUTSIDE = 100.0  # in frames; a point beyond is no measurement, and OpenCV's integers would overflow
_NOWHERE = -1.0


def draw_pose(
    sequence: PoseSequence,
    height: int,
    width: int,
    *,
    mode: DrawMode = "confidence",
    canvas_short_side: int = RELEASED_CANVAS_SHORT_SIDE,
) -> NDArray[np.uint8]:
    """Draw every frame of a sequence.

    Args:
        sequence: the poses; padding people draw nothing.
        height, width: size of the maps in pixels; it need not be the sequence's own.
        mode: "confidence" scales every colour by the scores, as released. "binary" draws whatever has a
            score above 0.3 at full colour and nothing else.
        canvas_short_side: shorter side in pixels of the canvas that is drawn on before it is brought to
            the size of the map. 2160 is the released one, reduced by bilinear interpolation without
            antialiasing, as released. Any other is reduced by area, which keeps thin lines whole;
            a canvas smaller than the map is enlarged bilinearly.

    Returns:
        uint8 ``F x H x W x 3``, RGB.

    Raises:
        PoseError: a size is not positive, or there is no such mode.
    """
    painter = PosePainter(height, width, mode=mode, canvas_short_side=canvas_short_side)
    maps = np.empty((len(sequence), height, width, 3), dtype=np.uint8)
    assert sequence.is_present is not None
    for i in range(len(sequence)):
        maps[i] = painter.draw(sequence.points[i], sequence.scores[i], sequence.is_present[i])
    return maps


def draw_frame(
    points: NDArray[np.float64],
    scores: NDArray[np.float64],
    is_present: NDArray[np.bool_] | None,
    height: int,
    width: int,
    *,
    mode: DrawMode = "confidence",
    canvas_short_side: int = RELEASED_CANVAS_SHORT_SIDE,
) -> NDArray[np.uint8]:
    """Draw one frame: points ``P x 134 x 2``, scores ``P x 134``, is_present ``P`` (None: all are).

    Returns uint8 ``H x W x 3``, RGB. For many frames keep a `PosePainter`, which keeps its canvas.
    """
    painter = PosePainter(height, width, mode=mode, canvas_short_side=canvas_short_side)
    return painter.draw(points, scores, is_present)


def overlay_frame(
    frame: NDArray[np.uint8],
    points: NDArray[np.float64],
    scores: NDArray[np.float64],
    is_present: NDArray[np.bool_] | None = None,
    *,
    mode: DrawMode = "confidence",
    canvas_short_side: int = 720,
    opacity: float = 1.0,
    background: float = 0.6,
) -> NDArray[np.uint8]:
    """Lay the skeletons over a picture, for people to look at.

    Args:
        frame: uint8 ``H x W x 3``, RGB.
        points, scores, is_present: as for `draw_frame`.
        canvas_short_side: as for `draw_pose`; the smaller, the bolder the strokes.
        opacity: of the strokes, 0 to 1.
        background: brightness left to the picture between the strokes, 0 to 1.

    Returns:
        uint8 ``H x W x 3``, RGB; a new array.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise PoseError(
            f"a picture of shape {frame.shape}, {frame.dtype}, was given; expected H x W x 3, uint8"
        )
    height, width = frame.shape[:2]
    skeleton = draw_frame(
        points, scores, is_present, height, width, mode=mode, canvas_short_side=canvas_short_side
    )
    # An antialiased edge covers only part of its pixel: the brightest channel says how much.
    coverage = opacity * skeleton.max(axis=2, keepdims=True) / np.float32(255)
    blended = frame * (background * (1 - coverage)) + skeleton * np.float32(opacity)
    return np.clip(np.rint(blended), 0, 255).astype(np.uint8)


class PosePainter:
    """Draws frame after frame of one size on a canvas that it keeps. Arguments as for `draw_pose`."""

    def __init__(
        self,
        height: int,
        width: int,
        *,
        mode: DrawMode = "confidence",
        canvas_short_side: int = RELEASED_CANVAS_SHORT_SIDE,
    ) -> None:
        if height < 1 or width < 1 or canvas_short_side < 1:
            raise PoseError(f"a map of {width}x{height} on a canvas of {canvas_short_side} cannot be drawn")
        if mode not in get_args(DrawMode):
            raise PoseError(
                f"there is no drawing mode {shown(mode)}; use one of {', '.join(get_args(DrawMode))}"
            )
        self.height, self.width, self.mode = height, width, mode
        short_side = min(height, width)
        ratio = canvas_short_side / short_side if short_side != canvas_short_side else 1
        self._canvas = np.zeros((int(height * ratio), int(width * ratio), 3), dtype=np.uint8)
        by_area = canvas_short_side != RELEASED_CANVAS_SHORT_SIDE and ratio > 1
        self._interpolation = cv2.INTER_AREA if by_area else cv2.INTER_LINEAR

    def draw(
        self,
        points: NDArray[np.float64],
        scores: NDArray[np.float64],
        is_present: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.uint8]:
        """One map, uint8 ``H x W x 3``, RGB, of points ``P x 134 x 2`` and scores ``P x 134``."""
        points, scores = np.asarray(points, dtype=np.float64), np.asarray(scores, dtype=np.float64)
        if points.ndim != 3 or points.shape[1:] != (NUM_POINTS, 2) or scores.shape != points.shape[:2]:
            raise PoseError(
                f"points {points.shape} and scores {scores.shape} are not one frame's; "
                f"expected (people, {NUM_POINTS}, 2) and (people, {NUM_POINTS})"
            )
        if is_present is not None:
            points, scores = points[is_present], scores[is_present]
        if len(points) == 0:
            return np.zeros((self.height, self.width, 3), dtype=np.uint8)
        points, scores = _without_wild_points(points, scores)
        if self.mode == "binary":
            points, scores = _binarised(points, scores)

        canvas_height, canvas_width = self._canvas.shape[:2]
        positions = points * np.array([float(canvas_width), float(canvas_height)])
        pixels = positions.astype(np.int64)  # towards zero
        _draw_limbs(self._canvas, positions[:, BODY].tolist(), scores[:, BODY].tolist())
        _draw_body_joints(self._canvas, pixels[:, BODY].tolist(), scores[:, BODY].tolist())
        for hand in HANDS:  # everyone's left hands, then everyone's right
            _draw_hands(self._canvas, pixels[:, hand].tolist(), scores[:, hand].tolist())
        _draw_faces(self._canvas, pixels[:, FACE].tolist(), scores[:, FACE].tolist())

        size = (self.width, self.height)
        # Of equal size, cv2.resize copies.
        drawn = np.asarray(cv2.resize(self._canvas, size, interpolation=self._interpolation), dtype=np.uint8)
        first = max(0, int(pixels[..., 1].min()) - _CLEARED_MARGIN)
        self._canvas[first : max(0, int(pixels[..., 1].max()) + _CLEARED_MARGIN)] = 0
        return drawn


def _without_wild_points(
    points: NDArray[np.float64], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    is_wild = ~(np.abs(points) < _FAR_OUTSIDE).all(axis=-1) | ~np.isfinite(scores)
    if not is_wild.any():
        return points, scores
    return np.where(is_wild[..., None], _NOWHERE, points), np.where(is_wild, 0.0, scores)


def _binarised(
    points: NDArray[np.float64], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    is_seen = scores > VISIBLE_ABOVE
    return np.where(is_seen[..., None], points, _NOWHERE), is_seen.astype(np.float64)


# What follows draws in RGB with red and blue of the palette exchanged, as the released maps show it.
# Lists, not arrays, go in: a few hundred scalars a frame are read, which is what arrays are slow at.


def _draw_limbs(
    canvas: NDArray[np.uint8], positions: list[list[list[float]]], scores: list[list[float]]
) -> None:
    # In the released code a joint not above the threshold has lost its number: it is -1, which then stands
    # for the last joint of the last person. It shows where a score equals the threshold.
    lost = positions[-1][-1]
    for (a, b), colour in zip(BODY_LIMBS, BODY_COLOURS):
        for person, score in zip(positions, scores):
            if score[a] < VISIBLE_ABOVE or score[b] < VISIBLE_ABOVE:
                continue
            ax, ay = person[a] if score[a] > VISIBLE_ABOVE else lost
            bx, by = person[b] if score[b] > VISIBLE_ABOVE else lost
            length = ((ax - bx) ** 2 + (ay - by) ** 2) ** 0.5
            angle = math.degrees(math.atan2(ay - by, ax - bx))
            middle = (int((ax + bx) / 2), int((ay + by) / 2))
            axes = (int(length / 2), LIMB_HALF_WIDTH)
            outline = cv2.ellipse2Poly(middle, axes, int(angle), 0, 360, 1)
            # Limbs are flat colour, so dimming the colour is dimming the canvas; the whole canvas is
            # dimmed after the limbs in the released code, which takes ten times as long as all the drawing.
            shade = [int(min(int(c * (score[a] * score[b])), 255) * LIMB_BRIGHTNESS) for c in colour]
            cv2.fillConvexPoly(canvas, np.asarray(outline), shade[::-1])


def _draw_body_joints(
    canvas: NDArray[np.uint8], pixels: list[list[list[int]]], scores: list[list[float]]
) -> None:
    for joint, colour in enumerate(BODY_COLOURS):
        for person, score in zip(pixels, scores):
            if score[joint] > VISIBLE_ABOVE:
                shade = [int(c * score[joint]) for c in colour]
                cv2.circle(canvas, person[joint], BODY_JOINT_RADIUS, shade[::-1], thickness=-1)


def _draw_hands(canvas: NDArray[np.uint8], pixels: list[list[list[int]]], scores: list[list[float]]) -> None:
    for hand, score in zip(pixels, scores):
        for (a, b), colour in zip(HAND_BONES, HAND_BONE_COLOURS):
            if min(hand[a]) > 0 and min(hand[b]) > 0:
                brightness = int(score[a] * score[b] * 255)
                shade = [c * brightness for c in colour]
                cv2.line(canvas, hand[a], hand[b], shade[::-1], thickness=HAND_BONE_WIDTH)
        for pixel, confidence in zip(hand, score):
            if min(pixel) > 0:
                shade = [int(confidence * 255), 0, 0]
                cv2.circle(canvas, pixel, HAND_JOINT_RADIUS, shade, thickness=-1)


def _draw_faces(canvas: NDArray[np.uint8], pixels: list[list[list[int]]], scores: list[list[float]]) -> None:
    for face, score in zip(pixels, scores):
        for pixel, confidence in zip(face, score):
            if min(pixel) > 0:
                grey = int(confidence * 255)
                cv2.circle(canvas, pixel, FACE_POINT_RADIUS, (grey, grey, grey), thickness=-1)
