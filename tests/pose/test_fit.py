"""The fit report: good fits are good, each fault is named, and the numbers are right where they are known."""

import numpy as np
import pytest

from mimic.dancers import World, render, sample_character, sample_motion
from pose import PoseError, PoseSequence, align_pose
from pose.figure import body_height, figure_mask, people_mask
from pose.fit import judge_fit
from tests.pose.figures import beside, clip


def test_a_pose_on_its_own_picture_is_a_perfect_fit():
    report = judge_fit(clip(num_frames=4), clip())
    assert report.overlap == 1.0
    assert report.size == pytest.approx(1.0)
    np.testing.assert_allclose(list(report.bones.values()), 1.0, rtol=0.02)
    assert (report.share_outside, report.ground_gap, report.ground_drift) == (0, pytest.approx(0), 0)
    assert not report.is_poor
    assert report.sentence() is None
    assert report.as_dict()["is_poor"] is False


@pytest.mark.parametrize(
    ("driving", "expected"),
    [
        (clip(num_frames=3, size=50.0), "0.50 times the person's size"),
        (clip(num_frames=3, at=(85.0, 30.0)), "begins 24% of its height beside the person"),
        (clip(num_frames=3, at=(60.0, 55.0)), "below the reference's ground"),
        (clip(num_frames=20, step=(8.0, 0.0)), "of the joints lie outside the frame"),
        (clip(num_frames=20, at=(60.0, 10.0), step=(0.0, 2.5)), "the ground under the feet moves"),
    ],
)
def test_each_fault_is_named_in_one_sentence(driving: PoseSequence, expected: str):
    report = judge_fit(driving, clip())
    assert report.is_poor
    assert expected in report.sentence()
    assert "\n" not in report.sentence()


def test_a_half_body_reference_does_not_count_its_missing_legs():
    reference = clip(size=250.0, at=(60.0, 50.0))
    reference.scores[..., [8, 9, 10, 11, 12, 13]] = 0.0
    report = judge_fit(align_pose(clip(num_frames=3), reference, mode="limbs"), reference)
    assert report.share_outside < 0.1
    assert report.ground_gap is None


def test_a_given_silhouette_counts():
    nowhere = np.zeros((160, 120), bool)
    assert judge_fit(clip(), clip(), silhouette=nowhere).overlap == 0.0
    assert judge_fit(clip(), clip(), silhouette=~nowhere).overlap == 1.0


def test_nothing_common_cannot_be_measured():
    nobody = clip(score=0.0)
    report = judge_fit(nobody, clip())
    assert (report.overlap, report.size, report.ground_gap) == (None, None, None)
    assert not report.is_poor


def test_people_are_judged_one_by_one():
    both = beside(clip(), clip(at=(20.0, 30.0)))
    assert judge_fit(both, both, person=1).overlap == 1.0
    with pytest.raises(PoseError, match="person 2 cannot be judged"):
        judge_fit(both, both, person=2)


def test_drawn_figures_lie_on_rendered_ones():
    rng, world = np.random.default_rng(4), World.plain()
    character, motion = sample_character(rng, world), sample_motion(rng, world, duration_s=1)
    seen = render(character, motion, [0.0, 0.5], 160, 160, supersample=1)
    for frame in range(2):
        points, scores = seen.poses.points[frame, 0], seen.poses.scores[frame, 0]
        drawn, true = figure_mask(points, scores, 160, 160), seen.figure_mask[frame]
        assert (drawn & true).sum() / (drawn | true).sum() > 0.6
        wide = figure_mask(points, scores, 160, 160, margin=0.06)
        assert (wide & true).sum() / true.sum() > 0.95
    height = body_height(points * 160, scores) / 160
    assert height == pytest.approx(character.body.height / 1.15, rel=0.15)


def test_whoever_comes_last_is_in_front():
    both = beside(clip(), clip(at=(62.0, 30.0)))
    points, scores = both.points[0], both.scores[0]
    assert set(np.unique(people_mask(points, scores, 160, 120))) == {0, 1, 2}
    middle = (70, 61)
    assert people_mask(points, scores, 160, 120)[middle] == 2
    assert people_mask(points, scores, 160, 120, order=[1, 0])[middle] == 1


def test_nobody_covers_nothing():
    assert not figure_mask(np.zeros((134, 2)), np.zeros(134), 20, 20).any()
