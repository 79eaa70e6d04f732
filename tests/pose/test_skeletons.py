"""The layout: its parts tile the points, its tables agree with each other."""

import numpy as np

from pose import skeletons
from pose.types import NUM_POINTS
from tests.pose.figures import person


def test_the_parts_cover_every_point_once():
    parts = (skeletons.BODY, skeletons.FEET, skeletons.FACE, *skeletons.HANDS)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(NUM_POINTS))


def test_mirroring_twice_is_nothing():
    np.testing.assert_array_equal(skeletons.MIRROR[skeletons.MIRROR], np.arange(NUM_POINTS))


def test_mirroring_exchanges_left_and_right_names():
    for joint, name in enumerate(skeletons.BODY_JOINT_NAMES):
        swapped = name.replace("left", "?").replace("right", "left").replace("?", "right")
        assert skeletons.BODY_JOINT_NAMES[skeletons.MIRROR[joint]] == swapped


def test_a_mirrored_figure_keeps_right_joints_on_the_right_sides():
    mirrored = (person() * [-1, 1])[skeletons.MIRROR]
    assert mirrored[skeletons.RIGHT_SHOULDER, 0] < 0 < mirrored[skeletons.LEFT_SHOULDER, 0]


def test_bones_form_one_tree_each():
    for bones, num_joints in ((skeletons.BODY_LIMBS, 18), (skeletons.HAND_BONES, 21)):
        assert len(bones) == num_joints - 1
        reached = {bones[0][0]}
        while grown := {b for bone in bones for b in bone if reached & set(bone)} - reached:
            reached |= grown
        assert reached == set(range(num_joints))


def test_every_limb_and_joint_has_a_colour():
    assert len(skeletons.BODY_COLOURS) == 18 >= len(skeletons.BODY_LIMBS)
    assert len(skeletons.HAND_BONE_COLOURS) == len(skeletons.HAND_BONES) == 20
    assert len(set(skeletons.BODY_COLOURS)) == 18
