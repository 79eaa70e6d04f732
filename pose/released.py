"""To and from the pose dictionaries of the released DWPose code.

Such a dictionary holds one picture with n people: `bodies_candidate` [18n, 2], `bodies_subset` and
`bodies_score` [n, 18], `hands` [2n, 21, 2] and `hands_score` [2n, 21] (everyone's left hand, then
everyone's right), `faces` [n, 68, 2] and `faces_score` [n, 68]. Coordinates are fractions of the frame.
It has no feet. The nested form, `{"bodies": {"candidate", "subset", "score"}, "hands", …}`, is read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.skeletons import (
    BODY,
    FACE,
    FEET,
    LEFT_ANKLE,
    LEFT_HAND,
    RIGHT_ANKLE,
    RIGHT_HAND,
    VISIBLE_ABOVE,
)
from pose.types import NUM_POINTS, PoseError, PoseSequence

_KEYS = ("bodies_candidate", "bodies_subset", "bodies_score", "hands", "hands_score", "faces", "faces_score")


def from_dwpose_dict(pose: Mapping[str, Any], height: int, width: int, *, fps: float = 25.0) -> PoseSequence:
    """One frame's poses from a released dictionary, flat or nested.

    Args:
        pose: the dictionary; nothing else is read from it than the seven arrays named above.
        height, width: size of the picture in pixels.
        fps: rate of the clip that the frame belongs to.

    Returns:
        A sequence with F = 1 and P = n. The feet, which the dictionary lacks, lie on the ankles with score 0.

    Raises:
        PoseError: an array is missing, or shapes do not belong together.
    """
    arrays = _flat_arrays(pose)
    num_people = arrays["bodies_score"].shape[0] if arrays["bodies_score"].ndim == 2 else 0
    shapes = {
        "bodies_candidate": (18 * num_people, 2),
        "bodies_subset": (num_people, 18),
        "bodies_score": (num_people, 18),
        "hands": (2 * num_people, 21, 2),
        "hands_score": (2 * num_people, 21),
        "faces": (num_people, 68, 2),
        "faces_score": (num_people, 68),
    }
    for key, shape in shapes.items():
        if num_people == 0 and arrays[key].size == 0:  # empty lists have lost their shape
            arrays[key] = arrays[key].reshape(shape)
        if arrays[key].shape != shape:
            raise PoseError(f"{key} has shape {arrays[key].shape}; {num_people} people need {shape}")

    points = np.zeros((1, num_people, NUM_POINTS, 2))
    scores = np.zeros((1, num_people, NUM_POINTS))
    points[0, :, BODY] = arrays["bodies_candidate"].reshape(num_people, 18, 2)
    points[0, :, FEET] = points[0][:, [LEFT_ANKLE] * 3 + [RIGHT_ANKLE] * 3]
    points[0, :, FACE] = arrays["faces"]
    points[0, :, LEFT_HAND], points[0, :, RIGHT_HAND] = np.split(arrays["hands"], 2)
    # The subset repeats what the scores say; where float32 scores were compared it is the last word.
    body_scores = arrays["bodies_score"]
    scores[0, :, BODY] = np.where(
        arrays["bodies_subset"] < 0, np.minimum(body_scores, VISIBLE_ABOVE), body_scores
    )
    scores[0, :, FACE] = arrays["faces_score"]
    scores[0, :, LEFT_HAND], scores[0, :, RIGHT_HAND] = np.split(arrays["hands_score"], 2)
    return PoseSequence(points=points, scores=scores, height=height, width=width, fps=fps)


def to_dwpose_dict(frame: PoseSequence) -> dict[str, NDArray[np.float64]]:
    """The released dictionary, flat, of a sequence of one frame; padding people and feet are left out.

    Raises:
        PoseError: the sequence does not hold exactly one frame.
    """
    if len(frame) != 1:
        raise PoseError(f"a pose dictionary holds one frame, not {len(frame)}; take one with poses[i]")
    assert frame.is_present is not None
    points = frame.points[0][frame.is_present[0]]
    scores = frame.scores[0][frame.is_present[0]]
    num_people = len(points)
    numbering = np.arange(18.0 * num_people).reshape(num_people, 18)
    return {
        "bodies_candidate": points[:, BODY].reshape(-1, 2),
        "bodies_subset": np.where(scores[:, BODY] > VISIBLE_ABOVE, numbering, -1.0),
        "bodies_score": scores[:, BODY].copy(),
        "hands": np.concatenate([points[:, LEFT_HAND], points[:, RIGHT_HAND]]),
        "hands_score": np.concatenate([scores[:, LEFT_HAND], scores[:, RIGHT_HAND]]),
        "faces": points[:, FACE].copy(),
        "faces_score": scores[:, FACE].copy(),
    }


def _flat_arrays(pose: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    bodies = pose.get("bodies")
    if isinstance(bodies, Mapping):
        pose = {**pose, **{f"bodies_{name}": value for name, value in bodies.items()}}
    missing = [key for key in _KEYS if key not in pose]
    if missing:
        raise PoseError(f"the pose dictionary lacks {', '.join(missing)}; it needs {', '.join(_KEYS)}")
    return {key: np.array(pose[key], dtype=np.float64) for key in _KEYS}
