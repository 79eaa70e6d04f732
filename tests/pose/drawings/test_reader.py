"""Poses are read back from drawings, as drawn, and as videos keep them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mimic.dancers import World, render, sample_character, sample_motion
from mimic.video import VideoWriter, read_frames
from pose import PoseError, PoseSequence, draw_pose
from pose.drawings import DrawnSkeletons
from pose.skeletons import BODY, FACE, HANDS, LEFT_WRIST, RIGHT_WRIST, VISIBLE_ABOVE
from tests.pose.figures import beside, clip

SIZES = [(512, 512, 512), (512, 512, 2160), (1024, 576, 512), (1024, 576, 2160)]


def dancer(seed: int, num_frames: int = 2) -> PoseSequence:
    """True poses of a rendered dancer, all points seen."""
    rng = np.random.default_rng(seed)
    character, motion = (
        sample_character(rng, World.plain()),
        sample_motion(rng, World.plain(), duration_s=1.0),
    )
    poses = render(character, motion, np.arange(num_frames) / 4, 32, 32, supersample=1, fps=4.0).poses
    return replace(poses, scores=np.full_like(poses.scores, 0.9))


def through_video(maps: NDArray[np.uint8], path: Path) -> list[NDArray[np.uint8]]:
    with VideoWriter(path, height=maps.shape[1], width=maps.shape[2], fps=4) as writer:
        for frame in maps:
            writer.write(frame)
    return list(read_frames(path))


def errors(found: PoseSequence, true: PoseSequence, height: int, width: int) -> NDArray[np.float64]:
    """Distances ``F x 134`` in percent of the height of the body; infinite where nothing was found."""
    size = np.array([width, height])
    body = np.ptp(true.points[:, 0, BODY, 1] * height, axis=1)[:, None]
    distance = np.linalg.norm((found.points[:, 0] - true.points[:, 0]) * size, axis=-1) / body
    return np.where(found.scores[:, 0] > VISIBLE_ABOVE, 100 * distance, np.inf)


@pytest.mark.parametrize(("height", "width", "canvas"), SIZES)
def test_joints_are_read_from_compressed_drawings(
    tmp_path: Path, height: int, width: int, canvas: int
) -> None:
    found_errors = []
    for seed in (4, 9) if width == 576 else (4,):
        true = dancer(seed)
        frames = through_video(
            draw_pose(true, height, width, canvas_short_side=canvas), tmp_path / "drawn.mp4"
        )
        found = DrawnSkeletons().frames(frames, fps=4.0)
        assert (found.height, found.width, found.num_people) == (height, width, 1)
        found_errors.append(errors(found, true, height, width))
    percent = np.concatenate(found_errors)
    assert np.median(percent[:, BODY]) < 0.5
    assert (percent[:, BODY] < 1.0).mean() > 0.8  # the points of small faces hide nose and eyes
    assert (percent[:, BODY] < 4.0).mean() > 0.95
    assert np.median(percent[:, FACE]) < 1.0


@pytest.mark.parametrize(("height", "width", "canvas"), SIZES[2:])
def test_hands_are_where_they_are_drawn(tmp_path: Path, height: int, width: int, canvas: int) -> None:
    true = dancer(4)
    frames = through_video(draw_pose(true, height, width, canvas_short_side=canvas), tmp_path / "drawn.mp4")
    found = DrawnSkeletons().frames(frames, fps=4.0)
    for hand in HANDS:
        points, truth = (poses.points[:, 0, hand] * (width, height) for poses in (found, true))
        length = np.ptp(truth, axis=1).max(axis=-1)
        assert (found.scores[:, 0, hand] > VISIBLE_ABOVE).all()
        assert (np.linalg.norm(points - truth, axis=-1).mean(axis=1) < length * 0.4).all()


def test_both_orders_of_the_colours_are_told_apart() -> None:
    true = dancer(4, num_frames=1)
    drawn = draw_pose(true, 768, 512, mode="binary", canvas_short_side=512)
    ours, openpose = (DrawnSkeletons().frames(maps, fps=4.0) for maps in (drawn, drawn[..., ::-1]))
    np.testing.assert_allclose(ours.points[:, :, BODY], openpose.points[:, :, BODY], atol=2e-3)
    assert (errors(openpose, true, 768, 512)[:, BODY] < 1.5).all()


def test_bodies_without_hands_and_faces_are_read() -> None:
    true = dancer(9, num_frames=1)
    true.scores[:, :, 14:] = 0.0
    true.points[:, :, 18:] = -1.0
    found = DrawnSkeletons().image(draw_pose(true, 640, 480, canvas_short_side=480)[0])
    assert (errors(found, true, 640, 480)[0, :14] < 1.0).all()
    assert (found.scores[0, 0, 14:] == 0).all()


def test_a_person_is_chosen_and_followed_among_several() -> None:
    people = beside(
        clip(num_frames=2, height=480, width=640, size=300.0, at=(200.0, 80.0), step=(10.0, 0.0)),
        clip(num_frames=2, height=480, width=640, size=380.0, at=(450.0, 50.0)),
    )
    maps = draw_pose(people, 480, 640, canvas_short_side=480)
    for person, which in ((0, 0), ("largest", 1)):
        found = DrawnSkeletons().frames(maps, fps=25.0, person=person)
        true = replace(
            people, points=people.points[:, [which]], scores=people.scores[:, [which]], is_present=None
        )
        assert (errors(found, true, 480, 640)[:, 1:14] < 1.5).all()  # these faces are rings
    everybody = DrawnSkeletons().frames(maps, fps=25.0, person="all")
    assert everybody.num_people == 2


def test_scores_are_read_from_the_brightness() -> None:
    true = dancer(4, num_frames=1)
    for score in (0.54, 0.99):
        poses = replace(true, scores=np.full_like(true.scores, score))
        found = DrawnSkeletons().image(draw_pose(poses, 640, 480, canvas_short_side=480)[0])
        assert found.scores[0, 0, LEFT_WRIST] == pytest.approx(score, abs=0.08)
        assert found.scores[0, 0, RIGHT_WRIST] == pytest.approx(score, abs=0.08)


def test_what_is_no_skeleton_has_nobody_and_says_so() -> None:
    rainbow = np.zeros((120, 160, 3), np.uint8)
    for i, colour in enumerate(
        [(255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255)]
    ):
        rainbow[20 + 12 * i : 24 + 12 * i, 10:150] = colour
    assert DrawnSkeletons().image(rainbow).num_people == 0
    assert DrawnSkeletons().image(np.zeros((20, 30, 3), np.uint8)).num_people == 0
    with pytest.raises(PoseError, match="drawn skeletons whose joints cannot be read"):
        DrawnSkeletons().frames([rainbow], fps=4.0)
