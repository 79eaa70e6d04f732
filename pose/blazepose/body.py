"""The body in its square: 39 points with visibility, refined on the heat maps; and which bodies are real.

Points: 0 nose; 1-3 left eye (inner, centre, outer), 4-6 right eye; 7, 8 ears; 9, 10 mouth; 11, 12 shoulders;
13, 14 elbows; 15, 16 wrists; 17-22 little fingers, index fingers, thumbs; 23, 24 hips; 25, 26 knees; 27, 28
ankles; 29, 30 heels; 31, 32 foot tips; 33, 34 middle and rim of the body's square. From 7 on odd is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose.blazepose.detection import Hit
from pose.blazepose.geometry import UP, Points, Square, align
from pose.blazepose.networks import BODY_SIZE
from pose.session import Network

NOSE = 0
HEAD = slice(0, 11)
SHOULDERS = np.array([11, 12])
HIPS = np.array([23, 24])
MAIN_JOINTS = np.array([0, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28])
SQUARE_MIDDLE, SQUARE_RIM = 33, 34

MAP_SIZE = 64
MAP_REACH = 3  # cells around the peak, so 7 x 7
MIN_MAP_PEAK = 0.5

MIN_FRESH_PRESENCE = 0.9
MIN_TRACKED_PRESENCE = 0.5
MIN_JOINT = 0.3
MIN_NOSE = 0.5
MIN_SHOULDERS = 0.5  # mean of both
MIN_QUALITY = 0.7  # of a body whose head is hidden or out of the picture

# Most bodies are detected with scores of 0.72 to 0.99; what is none mostly scores 0.5 to 0.6.
CLEAR_DETECTION = 0.7
FAIR_DETECTION = 0.65  # enough where presence and joints leave no doubt
NO_DOUBT = (0.99, 0.95)  # presence, quality
FOLLOWED_BONUS = 0.15  # of detection score: two readings of one person do not take turns
QUALITY_BONUS = 0.1
SAME_HEAD = 0.5  # of the larger head: bodies whose noses are closer share one head


@dataclass(frozen=True, eq=False)
class Body:
    """One body: points ``39 x 2`` in pixels, visibility and presence of each, the probability of a body."""

    square: Square
    points: Points
    visibility: NDArray[np.float64]
    presence: NDArray[np.float64]
    score: float
    detection_score: float = 1.0
    is_followed: bool = False

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Probability of each point that it is present and visible."""
        return self.visibility * self.presence

    @property
    def quality(self) -> float:
        """Confidence in the whole body: its score times the mean of its eight clearest joints."""
        return self.score * float(np.sort(self.confidence[MAIN_JOINTS])[-8:].mean())

    @property
    def trunk(self) -> float:
        """Length of the trunk in pixels; at least the width of the shoulders, for bent and turned bodies."""
        left, right = self.points[SHOULDERS]
        height = float(np.linalg.norm((left + right) / 2 - self.points[HIPS].mean(axis=0)))
        return max(height, float(np.linalg.norm(left - right)))

    @property
    def next_square(self) -> Square:
        """Where to look for this body in a second pass or in the next frame."""
        return align(self.points[SQUARE_MIDDLE], self.points[SQUARE_RIM], UP).grow(1.25)

    @property
    def is_tracked(self) -> bool:
        """Whether the network is sure enough to go on following a body."""
        return self.score >= MIN_TRACKED_PRESENCE

    @property
    def rank(self) -> float:
        """Rank among several readings of one person, above all by the score of the detection."""
        bonus = FOLLOWED_BONUS * self.is_followed + QUALITY_BONUS * self.quality
        return self.score**2 * (self.detection_score + bonus)

    @property
    def is_weak(self) -> bool:
        """Whether the detection that led to this body had a low score."""
        return self.detection_score < CLEAR_DETECTION

    @property
    def is_there(self) -> bool:
        """Whether the network is sure enough of a body that was not followed before."""
        return self.score >= MIN_FRESH_PRESENCE

    @property
    def has_nose(self) -> bool:
        return bool(self.confidence[NOSE] >= MIN_NOSE)

    @property
    def is_clear(self) -> bool:
        """Whether a freshly detected body needs no face as proof.

        It was clearly detected, and nose and shoulders or most of the joints are visible: head and
        shoulders are enough for a portrait.
        """
        if self.is_weak:
            return self.detection_score >= FAIR_DETECTION and bool(
                self.score >= NO_DOUBT[0] and self.quality >= NO_DOUBT[1]
            )
        has_bust = self.has_nose and self.confidence[SHOULDERS].mean() >= MIN_SHOULDERS
        return bool(self.is_there and (has_bust or self.quality >= MIN_QUALITY))


def read_body(network: Network, picture: NDArray[np.uint8], square: Square) -> Body:
    """Read the points of a square as a body; its score tells whether there is one."""
    outputs = network(square.crop(picture, BODY_SIZE)[None])
    landmarks = outputs["landmarks"][0].astype(np.float64)
    fractions = refine(landmarks[:, :2] / BODY_SIZE, outputs["heatmap"][0])
    visibility, presence = _sigmoid(landmarks[:, 3:5]).T
    return Body(square, square.to_picture(fractions), visibility, presence, float(outputs["presence"][0, 0]))


def read_hit(network: Network, picture: NDArray[np.uint8], hit: Hit) -> Body:
    """Read the body of a detection in two passes: the first finds a better square for the second."""
    first = read_body(network, picture, hit.square)
    body = read_body(network, picture, first.next_square)
    return Body(body.square, body.points, body.visibility, body.presence, body.score, hit.score)


def refine(fractions: Points, heatmap: NDArray[np.float32]) -> Points:
    """Move points ``K x 2`` (fractions) to the centre of mass of their heat map's neighbourhood.

    Points outside their map, or with no probability of 0.5 or more around them, stay.

    Args:
        heatmap: logits ``K x 64 x 64``.
    """
    column, row = np.floor(fractions * MAP_SIZE).astype(np.int64).T
    is_inside = _in_map(column) & _in_map(row)

    steps = np.arange(-MAP_REACH, MAP_REACH + 1)
    rows, columns = row[:, None] + steps, column[:, None] + steps  # K x 7
    in_map = _in_map(rows)[:, :, None] & _in_map(columns)[:, None, :]
    number = np.arange(len(heatmap))[:, None, None]
    last = MAP_SIZE - 1
    logits = heatmap[number, rows.clip(0, last)[:, :, None], columns.clip(0, last)[:, None, :]]  # K x 7 x 7
    weights = np.where(in_map, _sigmoid(logits.astype(np.float64)), 0.0)
    total = weights.sum(axis=(1, 2))
    is_clear = is_inside & (weights.max(axis=(1, 2)) >= MIN_MAP_PEAK)
    total = np.where(is_clear, total, 1.0)
    x = (weights.sum(axis=1) * columns).sum(axis=1) / total / MAP_SIZE
    y = (weights.sum(axis=2) * rows).sum(axis=1) / total / MAP_SIZE
    refined: Points = np.where(is_clear[:, None], np.stack([x, y], axis=1), fractions)
    return refined


def without_duplicates(bodies: list[Body], height: int, width: int) -> list[Body]:
    """Return the bodies without worse readings of the same person, the best first."""
    kept: list[Body] = []
    for body in sorted(bodies, key=lambda body: -body.rank):
        if len(visible_joints(body, height, width)) < 3:
            continue
        if not any(_is_duplicate(body, other, height, width) for other in kept):
            kept.append(body)
    return kept


def visible_joints(body: Body, height: int, width: int) -> Points:
    """Return the visible main joints, or all visible points if fewer than three; clipped to the picture."""
    visible = np.flatnonzero(body.confidence[:SQUARE_MIDDLE] > MIN_JOINT)
    main = visible[np.isin(visible, MAIN_JOINTS)]
    joints: Points = np.clip(body.points[main if len(main) >= 3 else visible], 0, [width, height])
    return joints


def have_one_head(body: Body, other: Body) -> bool:
    """Whether the noses of two bodies are so close that both are readings of one person."""
    if not (body.has_nose and other.has_nose):
        return False
    size = max(float(np.ptp(one.points[HEAD], axis=0).max()) for one in (body, other))
    return float(np.linalg.norm(body.points[NOSE] - other.points[NOSE])) < SAME_HEAD * size


def _is_duplicate(body: Body, kept: Body, height: int, width: int) -> bool:
    if have_one_head(body, kept):
        return True
    box, kept_box = (_box(visible_joints(b, height, width)) for b in (body, kept))
    extent = max(*(box[1] - box[0]), *(kept_box[1] - kept_box[0]))
    distances = np.linalg.norm(body.points[MAIN_JOINTS] - kept.points[MAIN_JOINTS], axis=1)
    if distances.mean() < 0.15 * extent:
        return True
    shared = np.maximum(np.minimum(box[1], kept_box[1]) - np.maximum(box[0], kept_box[0]), 0.0).prod()
    covered = shared / max(float((box[1] - box[0]).prod()), 1e-9)
    is_small = body.square.side < 0.5 * kept.square.side
    return bool(covered > (0.5 if is_small else 0.85))


def _box(points: Points) -> NDArray[np.float64]:
    return np.stack([points.min(axis=0), points.max(axis=0)])


def _in_map(cells: NDArray[np.int64]) -> NDArray[np.bool_]:
    return (cells >= 0) & (cells < MAP_SIZE)


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    probabilities: NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return probabilities
