"""Does the generated person move as the true one? Poses estimated anew in both videos, and compared.

Legend: F frames, 134 points of a `PoseSequence` (one person).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pose import PoseError, PoseSequence
from pose.estimators import Estimator
from pose.skeletons import BODY, HANDS, VISIBLE_ABOVE

# Estimators are sure of people from about this size on; smaller frames are looked at enlarged.
MIN_SHORT_SIDE = 384


@dataclass(frozen=True)
class PoseAgreement:
    """What `compare_poses` finds. None where nothing could be compared."""

    keypoint_error: float | None
    """Mean distance of body joints that both videos show, as a share of the true figure's height."""
    keypoints_missing: float | None
    """Share of the body joints that the truth shows and the generated video does not."""
    hand_keypoint_error: float | None
    """As `keypoint_error`, of the points of the hands."""
    hand_confidence: float
    """Mean score of the generated video's hand points, 0 to 1; of a frame without anybody it is 0."""
    hand_confidence_of_truth: float
    """The same of the truth: what can be had at this size and blur."""
    num_frames: int

    def as_metrics(self) -> dict[str, float | None]:
        return {
            "keypoint_error": self.keypoint_error,
            "keypoints_missing": self.keypoints_missing,
            "hand_keypoint_error": self.hand_keypoint_error,
            "hand_confidence": self.hand_confidence,
            "hand_confidence_of_truth": self.hand_confidence_of_truth,
        }


def compare_poses(generated: PoseSequence, truth: PoseSequence) -> PoseAgreement:
    """Compare the poses of one person in two videos of equal length and aspect.

    Joints count as shown from a score of 0.3 on. Distances are in pixels of the truth's frames, divided by
    the height of the box around the true figure's joints in that frame.

    Raises:
        ValueError: the numbers of frames differ, or there is more than one person.
    """
    if len(generated) != len(truth) or generated.num_people != 1 or truth.num_people != 1:
        raise ValueError("poses are compared of one person in clips of equal length")
    size = np.array([truth.width, truth.height], np.float64)
    is_shown = truth.scores[:, 0] > VISIBLE_ABOVE  # F x 134
    is_found = generated.scores[:, 0] > VISIBLE_ABOVE
    distance = np.linalg.norm((generated.points[:, 0] - truth.points[:, 0]) * size, axis=-1)
    share = distance / _figure_heights(truth, is_shown)[:, None]

    def mean_error(part: NDArray[np.bool_]) -> float | None:
        counted = is_shown & is_found & part & np.isfinite(share)
        return float(share[counted].mean()) if counted.any() else None

    body, hands = np.zeros(134, bool), np.zeros(134, bool)
    body[BODY] = True
    for hand in HANDS:
        hands[hand] = True
    num_shown = (is_shown & body).sum()
    return PoseAgreement(
        keypoint_error=mean_error(body),
        keypoints_missing=float((is_shown & ~is_found & body).sum() / num_shown) if num_shown else None,
        hand_keypoint_error=mean_error(hands),
        hand_confidence=float(generated.scores[:, 0, hands].clip(0, 1).mean()),
        hand_confidence_of_truth=float(truth.scores[:, 0, hands].clip(0, 1).mean()),
        num_frames=len(truth),
    )


def estimate_poses(
    frames: Iterable[NDArray[np.uint8]], estimator: Estimator, *, fps: float, num_frames: int
) -> PoseSequence:
    """Poses of a clip's largest person; scores of 0 where nobody is found. Small frames are enlarged."""
    size: list[tuple[int, int]] = []

    def enlarged() -> Iterator[NDArray[np.uint8]]:
        for frame in frames:
            factor = -(-MIN_SHORT_SIDE // min(frame.shape[:2]))
            size[:] = [(frame.shape[0], frame.shape[1])]
            if factor > 1:
                shape = (frame.shape[1] * factor, frame.shape[0] * factor)
                yield np.asarray(cv2.resize(frame, shape, interpolation=cv2.INTER_CUBIC), np.uint8)
            else:
                yield frame

    try:
        return estimator.frames(enlarged(), fps=fps, total=num_frames)
    except PoseError:
        if not size:
            raise
    height, width = size[0]
    nobody = np.zeros((num_frames, 1, 134))
    return PoseSequence(np.zeros((num_frames, 1, 134, 2)), nobody, height, width, fps)


def _figure_heights(poses: PoseSequence, is_shown: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Pixels from the highest to the lowest shown body joint of each frame; NaN where fewer than two are."""
    y = np.where(is_shown[:, BODY], poses.points[:, 0, BODY, 1] * poses.height, np.nan)
    heights = np.full(len(poses), np.nan)
    rows = (~np.isnan(y)).sum(axis=1) > 1
    heights[rows] = np.nanmax(y[rows], axis=1) - np.nanmin(y[rows], axis=1)
    heights[heights < 1] = np.nan
    return heights
