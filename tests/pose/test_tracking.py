"""Following one person: the right one, through gaps, never a crash."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose.tracking import check_choice, follow_person, stack_people
from pose.types import PoseError, PoseSequence
from tests.pose.figures import person

HEIGHT, WIDTH = 200, 300


def figure(x: float, y: float, size: float, score: float = 0.9):
    """Points (fractions) and scores of somebody whose nose is at x, y pixels."""
    points = (size * person() + [x, y]) / [WIDTH, HEIGHT]
    return points, np.full(len(points), score)


def sequence(frames, fps: float = 10.0) -> PoseSequence:
    """People given as (x, y, size) by frame."""
    found = [[figure(*one) for one in frame] for frame in frames]
    stacked = [
        (np.array([p for p, _ in f]).reshape(-1, 134, 2), np.array([s for _, s in f]).reshape(-1, 134))
        for f in found
    ]
    return stack_people(stacked, HEIGHT, WIDTH, fps)


def noses(poses: PoseSequence) -> np.ndarray:
    """x of the nose in pixels, F x P."""
    return poses.points[:, :, 0, 0] * WIDTH


SMALL_LEFT, LARGE_MIDDLE, MEDIUM_RIGHT = (50, 50, 60), (170, 20, 150), (250, 40, 90)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("largest", 170), ("center", 170), (0, 50), (1, 170), (2, 250), ("2", 250)],
)
def test_the_first_frame_with_people_decides(choice, expected):
    frames = [[], [MEDIUM_RIGHT, SMALL_LEFT, LARGE_MIDDLE], [SMALL_LEFT, LARGE_MIDDLE, MEDIUM_RIGHT]]
    followed = follow_person(sequence(frames), choice)
    assert followed.num_people == 1
    np.testing.assert_allclose(noses(followed)[1:, 0], expected)


def test_center_is_the_middle_of_the_picture_not_the_largest():
    frames = [[(40, 20, 150), (150, 60, 80)]]
    assert noses(follow_person(sequence(frames), "center"))[0, 0] == pytest.approx(150)
    assert noses(follow_person(sequence(frames), "largest"))[0, 0] == pytest.approx(40)


def test_the_person_is_kept_while_somebody_larger_comes_and_the_order_changes():
    frames = [[(60 + 4 * t, 60, 80)] for t in range(5)]
    frames += [[(250 - 2 * t, 10, 180), (80 + 4 * t, 60, 80)] for t in range(10)]
    followed = follow_person(sequence(frames), "largest")
    np.testing.assert_allclose(noses(followed)[:, 0], [60 + 4 * t for t in range(15)])


def test_two_people_cross_and_each_keeps_the_way():
    right = [(60 + 8 * t, 40, 80) for t in range(24)]
    left = [(250 - 8 * t, 70, 80) for t in range(24)]
    poses = sequence([[a, b] if t % 2 else [b, a] for t, (a, b) in enumerate(zip(right, left))])
    np.testing.assert_allclose(noses(follow_person(poses, 0))[:, 0], [x for x, _, _ in right])
    np.testing.assert_allclose(noses(follow_person(poses, 1))[:, 0], [x for x, _, _ in left])


def test_short_gaps_carry_the_position_with_no_confidence():
    other = (250, 50, 90)
    frames = [[(60, 50, 100), other], [other], [other], [(72, 50, 100), other], []]
    followed = follow_person(sequence(frames), 0)
    np.testing.assert_allclose(noses(followed)[:, 0], [60, 60, 60, 72, 72])
    np.testing.assert_array_equal(followed.scores[:, 0].max(axis=1) > 0, [True, False, False, True, False])
    assert followed.is_present.all()


def test_frames_before_the_first_sight_have_the_position_of_it():
    followed = follow_person(sequence([[], [], [(60, 50, 100)]]), "largest")
    np.testing.assert_allclose(noses(followed)[:, 0], 60)
    np.testing.assert_array_equal(followed.scores[:2], 0)


def test_after_two_seconds_somebody_new_is_followed():
    frames = [[(40, 50, 80)]] + [[(260, 50, 80)]] * 25  # at 10 frames a second
    followed = follow_person(sequence(frames), "largest")
    is_seen = followed.scores[:, 0].max(axis=1) > 0
    assert is_seen[0]
    assert not is_seen[1:20].any()
    assert is_seen[22:].all()
    assert noses(followed)[-1, 0] == pytest.approx(260)


def test_all_keeps_everybody_in_one_place():
    a, b, c = (60, 50, 80), (150, 50, 80), (240, 50, 80)
    poses = sequence([[a, b], [b, a], [b], [c, b, a], [a, c]])
    kept = follow_person(poses, "all")
    assert kept.num_people == 3
    np.testing.assert_array_equal(kept.is_present, [[1, 1, 0], [1, 1, 0], [0, 1, 0], [1, 1, 1], [1, 0, 1]])
    for place, x in enumerate((60, 150, 240)):
        here = kept.is_present[:, place]
        np.testing.assert_allclose(noses(kept)[here, place], x)
        assert (kept.scores[~here, place] == 0).all()


def test_the_place_of_somebody_long_gone_is_given_away():
    frames = [[(40, 50, 80)]] + [[]] * 25 + [[(260, 50, 80)]]
    assert follow_person(sequence(frames), "all").num_people == 1


@pytest.mark.parametrize("choice", ["largest", "center", "all", 0])
def test_nobody_at_all_is_one_sentence(choice):
    with pytest.raises(PoseError, match="nobody was found in any of the 4 frames"):
        follow_person(sequence([[], [], [], []]), choice)


def test_an_index_beyond_the_people_says_how_many_there_are():
    with pytest.raises(PoseError, match=r"person 2 was asked for, but .* shows 2 \(0 to 1, left to right\)"):
        follow_person(sequence([[], [SMALL_LEFT, LARGE_MIDDLE]]), 2)


@pytest.mark.parametrize("choice", ["biggest", -1, 1.5, True, None, "-1"])
def test_an_unknown_choice_names_the_known_ones(choice):
    with pytest.raises(PoseError, match="expected largest, center, all or an index"):
        check_choice(choice)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["largest", "center", "all", 0]))
def test_whatever_is_found_the_result_is_whole(seed, choice):
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(rng.integers(1, 12)):
        count = rng.integers(0, 4)
        frames.append((rng.uniform(-0.5, 1.5, (count, 134, 2)), rng.uniform(-0.2, 1.2, (count, 134))))
    poses = stack_people(frames, HEIGHT, WIDTH, 5.0)
    if not poses.is_present.any():
        return
    followed = follow_person(poses, choice)
    assert len(followed) == len(frames)
    assert np.isfinite(followed.points).all()
    found = {tuple(points.ravel()) for people, _ in frames for points in people}
    seen = followed.scores.any(axis=2) & followed.is_present
    assert seen.any()
    assert all(tuple(points.ravel()) in found for points in followed.points[seen])
    if choice == "all":
        np.testing.assert_array_equal(followed.is_present.sum(axis=1), [len(people) for people, _ in frames])
    else:
        assert followed.is_present.shape == (len(frames), 1)
        assert followed.is_present.all()
