"""Rotated squares: there and back, crops where the formula says, angles clockwise."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose.blazepose.geometry import (
    DOWN,
    RIGHT,
    UP,
    Square,
    Tolerance,
    align,
    around,
    direction,
    normalised,
)

places, angles = st.floats(-500, 1500), st.floats(-10, 10)
squares = st.builds(Square, places, places, st.floats(1, 2000), angles)


@settings(deadline=None)
@given(squares, st.lists(st.tuples(places, places), min_size=1, max_size=5))
def test_points_go_into_a_square_and_back(square, points):
    points = np.array(points)
    np.testing.assert_allclose(square.to_picture(square.from_picture(points)), points, atol=1e-6)


@settings(deadline=None)
@given(angles)
def test_angles_are_normalised_to_one_turn(angle):
    value = normalised(angle)
    assert -math.pi <= value < math.pi
    assert math.cos(value) == pytest.approx(math.cos(angle))
    assert math.sin(value) == pytest.approx(math.sin(angle))


@settings(deadline=None)
@given(places, places, st.floats(2, 500), angles, st.sampled_from([UP, DOWN, RIGHT]))
def test_an_aligned_square_has_the_rim_in_its_direction(x, y, radius, angle, target):
    centre = np.array([x, y])
    rim = centre + radius * np.array([math.cos(angle), math.sin(angle)])
    square = align(centre, rim, target)
    assert square.side == pytest.approx(2 * radius)
    place = {UP: (0.5, 0.0), DOWN: (0.5, 1.0), RIGHT: (1.0, 0.5)}[target]
    np.testing.assert_allclose(square.from_picture(rim[None])[0], place, atol=1e-6)


def test_a_head_that_leans_to_the_right_is_turned_clockwise():
    hip, head = np.array([100.0, 100.0]), np.array([150.0, 50.0])
    assert direction(hip, head, UP) == pytest.approx(math.pi / 4)


@settings(deadline=None)
@given(squares, st.floats(0.5, 3), st.floats(-0.5, 0.5))
def test_growing_moves_down_the_square_s_own_axis(square, scale, shift):
    grown = square.grow(scale, shift)
    centre = square.from_picture(np.array([[grown.x, grown.y]]))[0]
    np.testing.assert_allclose(centre, [0.5, 0.5 + shift], atol=1e-6)
    assert grown.side == pytest.approx(square.side * scale)
    assert grown.rotation == square.rotation


def test_growing_by_a_given_height_moves_by_it():
    grown = Square(10, 20, 8).grow(2, -0.1, height=30)
    assert (grown.x, grown.y, grown.side) == pytest.approx((10, 17, 16))


def test_around_points_is_their_upright_box_and_direction():
    points = np.array([[0.0, 0.0], [10.0, 10.0], [4.0, 30.0]])
    square, height = around(points, 0, 1)
    assert (square.x, square.y, square.side, height) == pytest.approx((5, 15, 30, 30))
    assert square.rotation == pytest.approx(math.pi / 4)


@pytest.mark.parametrize("rotation", [0.0, 0.6, -2.0, 3.0])
def test_a_crop_shows_a_point_where_the_square_has_it(rotation):
    picture = np.zeros((200, 300, 3), np.uint8)
    cv2.circle(picture, (140, 90), 4, (255, 255, 255), -1)
    square = Square(150, 100, 80, rotation)
    crop = square.crop(picture, 160)[..., 0].astype(float)
    rows, columns = np.nonzero(crop > 128)
    expected = square.from_picture(np.array([[140.0, 90.0]]))[0] * 160
    np.testing.assert_allclose([columns.mean(), rows.mean()], expected, atol=0.6)


def test_outside_the_picture_is_its_border_or_black():
    picture = np.full((50, 50, 3), 200, np.uint8)
    square = Square(0, 0, 40)
    assert (square.crop(picture, 32) == 200).all()
    assert square.crop(picture, 32, replicate=False)[0, 0, 0] == 0


@pytest.mark.parametrize(
    ("previous", "is_kept"),
    [
        (Square(100, 100, 50, 0.3), True),
        (Square(107, 100, 50, 0.3), True),
        (Square(112, 100, 50, 0.3), False),  # too far
        (Square(100, 100, 80, 0.3), False),  # too large
        (Square(100, 100, 50, 1.2), False),  # turned too far
        (Square(100, 100, 50, 0.3 + 2 * math.pi), True),  # once around
    ],
)
def test_the_previous_square_is_kept_when_near(previous, is_kept):
    tolerance = Tolerance(rotation=0.7, centre=0.2, side=0.4, inside=0.9)
    current, points = Square(100, 100, 50, 0.3), np.array([[95.0, 98.0], [104.0, 101.0]])
    assert tolerance.keeps(current, previous, points) is is_kept
    assert not tolerance.keeps(current, previous, points + np.array([30, 0]))
