"""Poses and faces compared: errors that are known, and people who are not found."""

from pathlib import Path

import numpy as np
import pytest

from mimic.dancers.character import sample_character
from mimic.dancers.clip import RenderedClip
from mimic.dancers.motion import sample_motion
from mimic.dancers.render import render
from mimic.dancers.world import World
from mimic.metrics.identity import TEMPLATE, FaceModel, similarity_transform
from mimic.metrics.pose import compare_poses, estimate_poses
from pose import PoseSequence, load_estimator
from pose.skeletons import BODY, FACE, LEFT_HAND, RIGHT_HAND

GOLDENS = Path(__file__).parents[2] / "goldens"


@pytest.fixture(scope="module")
def dancer() -> RenderedClip:
    rng = np.random.default_rng(1)
    world = World.plain()
    character, motion = sample_character(rng, world), sample_motion(rng, world, duration_s=1)
    return render(character, motion, np.arange(2) / 10, 192, 192, supersample=1, fps=10)


def poses(points: np.ndarray, scores: float | np.ndarray = 0.9) -> PoseSequence:
    full = np.broadcast_to(scores, points.shape[:3]).copy()
    return PoseSequence(points, full, height=200, width=100, fps=10)


def figure(num_frames: int = 3) -> np.ndarray:
    """Body joints from 20 % to 70 % of the height: 100 pixels of 200."""
    points = np.full((num_frames, 1, 134, 2), 0.5)
    points[:, :, BODY, 1] = np.linspace(0.2, 0.7, 18)
    return points


def test_a_shift_is_its_share_of_the_figures_height():
    truth = poses(figure())
    moved = figure()
    moved[..., 0] += 0.1  # 10 pixels of a width of 100
    found = compare_poses(poses(moved), truth)
    assert found.keypoint_error == pytest.approx(0.1)
    assert found.hand_keypoint_error == pytest.approx(0.1)
    assert found.keypoints_missing == 0
    assert compare_poses(truth, truth).keypoint_error == 0


def test_joints_that_are_not_found_are_missing_and_not_an_error():
    scores = np.full((3, 1, 134), 0.9)
    scores[:, :, BODY.start : 9] = 0.1
    found = compare_poses(poses(figure(), scores), poses(figure()))
    assert found.keypoints_missing == pytest.approx(0.5)
    assert found.keypoint_error == 0


def test_hand_confidence_is_the_mean_score_of_both_hands():
    scores = np.full((3, 1, 134), 0.9)
    scores[:, :, LEFT_HAND], scores[:, :, RIGHT_HAND] = 0.2, 0.6
    found = compare_poses(poses(figure(), scores), poses(figure()))
    assert found.hand_confidence == pytest.approx(0.4)
    assert found.hand_confidence_of_truth == pytest.approx(0.9)


def test_nobody_anywhere_is_compared_without_a_number():
    estimator = load_estimator("blazepose", num_threads=1)
    empty = estimate_poses(iter(np.zeros((2, 64, 64, 3), np.uint8)), estimator, fps=10, num_frames=2)
    assert len(empty) == 2
    found = compare_poses(empty, poses(figure(2)))
    assert (found.keypoint_error, found.keypoints_missing, found.hand_confidence) == (None, 1.0, 0.0)


def test_poses_of_a_rendered_dancer_are_near_the_exact_ones(dancer):
    estimator = load_estimator("blazepose", num_threads=1)
    found = estimate_poses(iter(dancer.frames), estimator, fps=10, num_frames=2)
    agreement = compare_poses(found, dancer.poses)
    assert agreement.keypoint_error is not None
    assert agreement.keypoint_error < 0.06
    assert agreement.keypoints_missing < 0.3


def test_similarity_transform_is_recovered():
    angle, scale = 0.4, 1.7
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    target = TEMPLATE @ rotation.T + (5, -3)
    found = similarity_transform(TEMPLATE, target)
    np.testing.assert_allclose(found, np.column_stack([rotation, (5, -3)]), atol=1e-9)


def test_a_face_is_embedded_where_it_is_shown(dancer):
    # Any network of one square picture will do for the interface: a recorded detector's stub is at hand.
    model = FaceModel(GOLDENS / "dwpose/onnx/det_stub.onnx")
    assert model.size > 100
    points, scores = dancer.poses.points[0, 0], np.full(134, 0.9)
    embedding = model.embed(dancer.frames[0], points, scores)
    assert embedding is not None
    assert np.linalg.norm(embedding) == pytest.approx(1)
    assert model.embed(dancer.frames[0], points, scores) @ embedding == pytest.approx(1)
    scores[FACE] = 0.1
    assert model.embed(dancer.frames[0], points, scores) is None
