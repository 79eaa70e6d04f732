"""The package's door: light to open, everything behind it."""

import subprocess
import sys

import pytest

import pose


def test_importing_loads_nothing_heavy():
    program = (
        "import sys, pose\n"
        "heavy = {'numpy', 'cv2', 'onnxruntime', 'torch'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "pose.draw_pose, pose.align_pose, pose.smooth_pose, pose.follow_person, pose.PoseSequence\n"
        "assert not {'onnxruntime', 'torch', 'mimic'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_public_name_is_there():
    for name in pose.__all__:
        assert getattr(pose, name).__name__ == name
        assert name in dir(pose)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_here"):
        pose.nothing_here  # noqa: B018
