"""Heat-map refinement and duplicate bodies."""

import numpy as np
import pytest

from pose.blazepose.body import Body, refine, without_duplicates
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
