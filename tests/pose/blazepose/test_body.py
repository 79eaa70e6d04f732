"""Heat-map refinement and duplicate bodies."""

import numpy as np
import pytest

from pose.blazepose.body import HEAD, Body, have_one_head, refine, without_duplicates
from pose.blazepose.geometry import Square

BODY_POINTS = np.random.default_rng(0).uniform(20, 80, (39, 2))


def body(points=BODY_POINTS, *, seen: float = 0.95, score: float = 1.0, side: float = 100.0) -> Body:
    return Body(Square(50, 50, side), points, np.full(39, seen), np.ones(39), score)


def test_a_point_moves_to_the_centre_of_mass_around_it():
    heatmap = np.full((1, 64, 64), -np.inf, np.float32)
    heatmap[0, 20, 31], heatmap[0, 22, 33] = 0.0, np.log(3.0)  # weights 0.5 and 0.75
    heatmap[0, 20, 40] = 10.0  # out of reach
    refined = refine(np.array([[32.4 / 64, 21.9 / 64]]), heatmap)
    expected = (0.5 * np.array([31, 20]) + 0.75 * np.array([33, 22])) / 1.25 / 64
    np.testing.assert_allclose(refined[0], expected, atol=1e-6)


def test_the_neighbourhood_is_cut_at_the_border():
    heatmap = np.full((1, 64, 64), 20.0, np.float32)
    np.testing.assert_allclose(
        refine(np.array([[0.5 / 64, 63.5 / 64]]), heatmap)[0], [1.5 / 64, 61.5 / 64], atol=1e-6
    )


@pytest.mark.parametrize("place", [(-0.1, 0.5), (0.5, 1.0), (1.2, -3.0)])
def test_points_outside_their_map_stay(place):
    heatmap = np.full((1, 64, 64), 20.0, np.float32)
    np.testing.assert_array_equal(refine(np.array([place]), heatmap), [place])


def test_points_with_a_faint_map_stay():
    heatmap = np.full((1, 64, 64), -0.1, np.float32)
    np.testing.assert_array_equal(refine(np.array([[0.3, 0.3]]), heatmap), [[0.3, 0.3]])


def test_the_surest_reading_of_one_body_is_kept():
    sure, shifted = body(seen=0.99), body(BODY_POINTS + 3, seen=0.9)
    assert without_duplicates([shifted, sure], 100, 400) == [sure]


def test_bodies_apart_are_both_kept_best_first():
    left, right = body(seen=0.9), body(BODY_POINTS + np.array([200, 0]), seen=0.99)
    assert without_duplicates([left, right], 100, 400) == [right, left]


def test_a_body_inside_another_is_dropped():
    around, inside = body(), body(50 + (BODY_POINTS[::-1] - 50) * 0.4, seen=0.9, side=40)
    assert without_duplicates([around, inside], 100, 400) == [around]


def test_a_body_with_hardly_a_joint_to_be_seen_is_dropped():
    assert without_duplicates([body(seen=0.2)], 100, 400) == []


def test_quality_is_the_score_times_the_eight_clearest_joints():
    visibility = np.zeros(39)
    visibility[[0, 11, 12, 13, 14, 15, 16, 23]] = 0.8
    one = Body(Square(0, 0, 1), BODY_POINTS, visibility, np.full(39, 0.5), 0.9)
    assert one.quality == pytest.approx(0.9 * 0.4)


def portrait(
    *, detection: float = 0.9, presence: float = 0.99, shoulders: float = 0.9, nose: float = 0.99
) -> Body:
    """Head and shoulders in the picture, everything else outside."""
    visibility = np.zeros(39)
    visibility[HEAD] = nose
    visibility[[11, 12]] = shoulders
    return Body(Square(50, 50, 300), BODY_POINTS, visibility, np.ones(39), presence, detection)


def test_head_and_shoulders_are_enough_where_the_detection_is_clear():
    assert portrait().is_clear
    assert portrait().quality < 0.5
    for doubt in ({"detection": 0.6}, {"presence": 0.8}, {"shoulders": 0.3}, {"nose": 0.3}):
        assert not portrait(**doubt).is_clear


def test_a_body_without_a_head_is_clear_by_its_other_joints():
    visibility = np.ones(39)
    visibility[HEAD] = 0.0
    assert Body(Square(0, 0, 1), BODY_POINTS, visibility, np.ones(39), 0.99, 0.9).is_clear


def test_the_better_detection_of_one_head_wins_over_more_joints():
    right, squeezed = portrait(detection=0.91), body(50 + 0.5 * (BODY_POINTS - 50), side=150)
    squeezed.points[HEAD] = right.points[HEAD]
    squeezed = Body(squeezed.square, squeezed.points, squeezed.visibility, squeezed.presence, 1.0, 0.59)
    assert squeezed.quality > 2 * right.quality
    assert have_one_head(right, squeezed)
    assert without_duplicates([squeezed, right], 100, 400) == [right]


def test_a_followed_body_gives_way_to_a_clearly_better_one_only():
    def reading(detection: float, *, is_followed: bool) -> Body:
        return Body(Square(50, 50, 100), BODY_POINTS, np.ones(39), np.ones(39), 1.0, detection, is_followed)

    followed, similar, better = (
        reading(0.7, is_followed=True),
        reading(0.8, is_followed=False),
        reading(0.95, is_followed=False),
    )
    assert without_duplicates([similar, followed], 100, 400) == [followed]
    assert without_duplicates([better, followed], 100, 400) == [better]
