"""Persons and faces as boxes with a few points: anchors, score-weighted suppression, windows.

Legend: A anchors, D detections, K points of a detection.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.blazepose.geometry import UP, Points, Square, align
from pose.blazepose.networks import PERSON_SIZE
from pose.session import Network

PERSON_STRIDES = (8, 16, 32, 32, 32)
FACE_STRIDES = (8, 16, 16, 16)
MIN_SCORE = 0.5
MIN_OVERLAP = 0.3
WINDOW_SIZES = (1.0, 0.6)  # of the picture's shorter side
MIN_WINDOW = 64  # pixels; nobody in a smaller one could be read
FRAMED_SHARES = (0.5, 0.35)  # of the side, where black is put around the picture
VIEWS_AT_ONCE = 8

# Two hits are one person when their squares' centres and sides are this close.
SAME_CENTRE = 0.2
SAME_SIDE = (0.6, 1.67)


@dataclass(frozen=True)
class Hit:
    """A detected person: the square that holds the whole body."""

    score: float
    square: Square


@dataclass(frozen=True)
class View:
    """An upright part of the picture as a network sees it, and where it lies in the picture (pixels)."""

    image: NDArray[np.uint8]
    corner: tuple[float, float]
    sides: tuple[float, float]

    def to_picture(self, fractions: Points) -> Points:
        """Points of the view (0 to 1 along each side) in the picture."""
        return fractions * self.sides + self.corner


def find_persons(network: Network, picture: NDArray[np.uint8], *, windows: bool) -> list[Hit]:
    """Persons in a picture, those of the whole picture first, each part by descending score.

    On the whole picture alone the detector misses most of a group and everybody smaller than about a
    quarter of the picture; `windows` looks at overlapping squares of it, too.
    """
    hits = _hits(network, [whole_view(picture, PERSON_SIZE)])
    if windows:
        hits += _hits(network, window_views(picture, PERSON_SIZE))
    kept: list[Hit] = []
    for hit in hits:
        if not any(_is_same(hit.square, other.square) for other in kept):
            kept.append(hit)
    return kept


def find_framed_persons(network: Network, picture: NDArray[np.uint8]) -> list[Hit]:
    """Persons who fill the picture or are cut off by its frame, best first: black is put around it."""
    return _hits(network, [framed_view(picture, share) for share in FRAMED_SHARES])


def framed_view(picture: NDArray[np.uint8], share: float) -> View:
    """The whole picture in the middle of a black square, over a share of its side."""
    inner = round(PERSON_SIZE * share)
    view = whole_view(picture, inner)
    image = np.zeros((PERSON_SIZE, PERSON_SIZE, 3), dtype=np.uint8)
    rim = (PERSON_SIZE - inner) // 2
    image[rim : rim + inner, rim : rim + inner] = view.image
    scale = PERSON_SIZE / inner
    rims = rim / inner
    corner = (view.corner[0] - view.sides[0] * rims, view.corner[1] - view.sides[1] * rims)
    return View(image, corner, (view.sides[0] * scale, view.sides[1] * scale))


def whole_view(picture: NDArray[np.uint8], size: int) -> View:
    """The whole picture, scaled to fit and centred on a black square."""
    height, width = picture.shape[:2]
    scale = size / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    canvas = np.zeros((size, size, 3), dtype=np.uint8)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    canvas[top : top + new_height, left : left + new_width] = _resized(picture, new_width, new_height)
    across, down = width / new_width, height / new_height
    return View(canvas, (-left * across, -top * down), (size * across, size * down))


def window_views(picture: NDArray[np.uint8], size: int) -> list[View]:
    """Overlapping squares of the picture, large before small, row by row."""
    height, width = picture.shape[:2]
    short, long = min(height, width), max(height, width)
    views = []
    for fraction in WINDOW_SIZES:
        side = round(fraction * short)
        if side >= long or side < MIN_WINDOW:
            continue
        for y in _window_starts(height, side):
            for x in _window_starts(width, side):
                image = _resized(picture[y : y + side, x : x + side], size, size)
                views.append(View(image, (x, y), (side, side)))
    return views


@functools.cache
def anchors(size: int, strides: tuple[int, ...]) -> NDArray[np.float64]:
    """Centres ``A x 2`` as fractions of the input: two anchors for every cell and layer of its stride."""
    centres = []
    for stride in dict.fromkeys(strides):
        cells = math.ceil(size / stride)
        y, x = np.mgrid[:cells, :cells]
        grid = (np.stack([x.ravel(), y.ravel()], axis=1) + 0.5) / cells
        centres.append(np.repeat(grid, 2 * strides.count(stride), axis=0))
    return np.concatenate(centres)


def decode(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], size: int, strides: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The detections of one input, best first.

    Args:
        boxes: ``A x (4 + 2 K)``, input pixels relative to the anchor: centre, size, points.
        scores: ``A``, probabilities.

    Returns:
        points ``D x K x 2`` as fractions of the input, and scores ``D``.
    """
    found = np.flatnonzero(scores > MIN_SCORE)
    centre = anchors(size, strides)[found]
    values = boxes[found].astype(np.float64) / size
    middle, half = values[:, :2] + centre, values[:, 2:4] / 2
    corners = np.concatenate([middle - half, middle + half], axis=1)
    points = values[:, 4:].reshape(len(found), (values.shape[1] - 4) // 2, 2) + centre[:, None]
    return merge(corners, points, scores[found].astype(np.float64))


def merge(
    corners: NDArray[np.float64], points: NDArray[np.float64], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score-weighted suppression: every cluster of overlapping boxes becomes one detection.

    Its points are the mean of the cluster's, weighted by score; its score is the best one.
    """
    order = np.argsort(-scores, kind="stable")
    merged, best_scores = [], []
    while len(order):
        is_near = _overlap(corners[order[0]], corners[order]) > MIN_OVERLAP
        is_near[0] = True
        cluster = order[is_near]
        merged.append(np.average(points[cluster], axis=0, weights=scores[cluster]))
        best_scores.append(scores[order[0]])
        order = order[~is_near]
    return np.array(merged).reshape(-1, *points.shape[1:]), np.array(best_scores)


def _hits(network: Network, views: list[View]) -> list[Hit]:
    hits = []
    for start in range(0, len(views), VIEWS_AT_ONCE):
        batch = views[start : start + VIEWS_AT_ONCE]
        outputs = network(np.stack([view.image for view in batch]))
        for boxes, scores, view in zip(outputs["boxes"], outputs["scores"], batch):
            all_points, all_scores = decode(boxes, scores, PERSON_SIZE, PERSON_STRIDES)
            for points, score in zip(all_points, all_scores):
                hip, rim = view.to_picture(points[:2])
                hits.append(Hit(float(score), align(hip, rim, UP).grow(1.25)))
    return sorted(hits, key=lambda hit: -hit.score)


def _is_same(a: Square, b: Square) -> bool:
    distance = math.hypot(a.x - b.x, a.y - b.y)
    ratio = a.side / max(b.side, 1e-9)
    return distance < SAME_CENTRE * max(a.side, b.side) and SAME_SIDE[0] < ratio < SAME_SIDE[1]


def _window_starts(length: int, side: int) -> list[int]:
    if length <= side:
        return [0]
    count = math.ceil(2 * (length - side) / side) + 1
    return [int(start) for start in np.linspace(0, length - side, count)]


def _resized(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    shrinks = width < picture.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=interpolation))


def _overlap(box: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.maximum(sides, 0.0).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - shared
    ratios: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratios
