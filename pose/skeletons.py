"""The whole-body layout as data: where each part's points lie, which joints make a limb, what mirrors."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

# OpenPose's 18 body joints, in order.
NOSE, NECK = 0, 1
RIGHT_SHOULDER, RIGHT_ELBOW, RIGHT_WRIST = 2, 3, 4
LEFT_SHOULDER, LEFT_ELBOW, LEFT_WRIST = 5, 6, 7
RIGHT_HIP, RIGHT_KNEE, RIGHT_ANKLE = 8, 9, 10
LEFT_HIP, LEFT_KNEE, LEFT_ANKLE = 11, 12, 13
RIGHT_EYE, LEFT_EYE, RIGHT_EAR, LEFT_EAR = 14, 15, 16, 17

# A joint counts as seen when its score is above this, in the released code and here.
VISIBLE_ABOVE = 0.3

BODY = slice(0, 18)
FEET = slice(18, 24)  # left big toe, small toe, heel; then the right foot's
FACE = slice(24, 92)  # iBUG-68 order
LEFT_HAND = slice(92, 113)
RIGHT_HAND = slice(113, 134)
HANDS = (LEFT_HAND, RIGHT_HAND)

BODY_JOINT_NAMES = (
    "nose", "neck",
    "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip

# The 17 limbs that are drawn, as pairs of body joints, in drawing order.
BODY_LIMBS: tuple[tuple[int, int], ...] = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
    (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip

# Joints whose place tells where a body stands: head, torso and legs, not the arms.
ALIGNED_JOINTS: tuple[int, ...] = (0, 1, 2, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17)

# Lengths that tell how large a body is: along head, torso and legs.
ALIGNED_SPANS: tuple[tuple[int, int], ...] = (
    (RIGHT_EAR, LEFT_EAR), (NOSE, NECK), (NOSE, RIGHT_SHOULDER), (NOSE, LEFT_SHOULDER),
    (RIGHT_SHOULDER, LEFT_SHOULDER), (NECK, RIGHT_HIP), (NECK, LEFT_HIP), (RIGHT_HIP, LEFT_HIP),
    (RIGHT_HIP, RIGHT_KNEE), (LEFT_HIP, LEFT_KNEE), (RIGHT_KNEE, RIGHT_ANKLE), (LEFT_KNEE, LEFT_ANKLE),
    (NECK, RIGHT_KNEE), (NECK, LEFT_KNEE), (NECK, RIGHT_ANKLE), (NECK, LEFT_ANKLE),
    (NOSE, RIGHT_ANKLE), (NOSE, LEFT_ANKLE),
)  # fmt: skip

# How little each of these lengths is foreshortened: the trunk hardly ever, shoulders (of people who turn) and
# legs (of people who sit) often.
SPAN_STEADINESS: tuple[float, ...] = (
    0.3, 0.6, 0.8, 0.8, 0.5, 1.0, 1.0, 0.3, 0.03, 0.03, 0.03, 0.03, 0.03, 0.03, 0.03, 0.03, 0.03, 0.03
)  # fmt: skip

# The bones of a hand: wrist, then four bones a finger, thumb to little finger.
HAND_BONES: tuple[tuple[int, int], ...] = tuple(
    (0 if joint == 0 else 4 * finger + joint, 4 * finger + joint + 1)
    for finger in range(5)
    for joint in range(4)
)

# OpenPose's rainbow, RGB of limb i and of joint i. The released drawing shows it with red and blue exchanged.
BODY_COLOURS: tuple[tuple[int, int, int], ...] = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0),
    (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255),
    (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip

# Once around the colour wheel over the bones of a hand; floats, 0 to 1.
HAND_BONE_COLOURS: tuple[tuple[float, float, float], ...] = tuple(
    colorsys.hsv_to_rgb(bone / len(HAND_BONES), 1.0, 1.0) for bone in range(len(HAND_BONES))
)

_FACE_MIRROR = (
    *range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
)  # fmt: skip

# After mirroring the picture, point i is what point MIRROR[i] was: left and right change places.
MIRROR: NDArray[np.int64] = np.array(
    [0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16]
    + [21, 22, 23, 18, 19, 20]
    + [24 + i for i in _FACE_MIRROR]
    + list(range(113, 134))
    + list(range(92, 113))
)

# COCO-WholeBody's index of each of our points. COCO has no neck: the nose's index holds its place.
COCO_INDEX: NDArray[np.int64] = np.array(
    [0, 0, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3, *range(17, 133)]
)
