"""Rules about hands, the face and the order of the points, without a picture."""

import math
from dataclasses import replace

import numpy as np
import pytest

from pose.blazepose import layout
from pose.blazepose.body import Body
from pose.blazepose.face import Face
from pose.blazepose.geometry import Square
from pose.blazepose.hands import (
    TRIES,
    Hand,
    Try,
    _accepted,
    _agree,
    _told_apart,
    _tries,
    rough_square,
    tried_square,
    wrist_distance,
)
from pose.blazepose.layout import FACE_POINTS, Person, faces_away
from pose.skeletons import BODY, FACE, FEET, LEFT_HAND, RIGHT_HAND, VISIBLE_ABOVE

HEIGHT, WIDTH = 200, 400


def body(points: np.ndarray | None = None) -> Body:
    """Somebody facing the camera (the left shoulder is on the right), each point with its own confidence."""
    if points is None:
        points = np.random.default_rng(1).uniform(0, 200, (39, 2))
        points[[11, 12, 23, 24]] = [(120, 50), (80, 50), (110, 100), (90, 100)]
    return Body(Square(100, 100, 200), points, np.linspace(0.4, 0.9, 39), np.full(39, 0.9), 0.95)


def hand(at: tuple[float, float], *, handedness: float, size: float = 20.0) -> Hand:
    points = np.array(at) + size * np.random.default_rng(2).uniform(0, 1, (21, 2))
    points[0], points[1], points[2] = at, np.array(at) + size, at
    return Hand(Square(*at, size), points, 0.8, handedness)


def test_the_body_is_in_openpose_order_with_the_neck_between_the_shoulders():
    someone = body()
    points, scores = Person(someone, (None, None), None).points(HEIGHT, WIDTH)
    pixels, confidence = points * [WIDTH, HEIGHT], someone.confidence * someone.score
    order = {0: 0, 2: 12, 3: 14, 4: 16, 5: 11, 6: 13, 7: 15, 8: 24, 9: 26, 10: 28, 11: 23, 12: 25, 13: 27}
    order |= {14: 5, 15: 2, 16: 8, 17: 7}
    for joint, landmark in order.items():
        np.testing.assert_allclose(pixels[BODY][joint], someone.points[landmark])
        assert scores[BODY][joint] == pytest.approx(confidence[landmark])
    np.testing.assert_allclose(pixels[1], someone.points[[11, 12]].mean(axis=0))
    assert scores[1] == pytest.approx(confidence[[11, 12]].min())


def test_feet_are_left_before_right_without_small_toes():
    someone = body()
    points, scores = Person(someone, (None, None), None).points(HEIGHT, WIDTH)
    np.testing.assert_allclose(
        (points * [WIDTH, HEIGHT])[FEET][[0, 2, 3, 5]], someone.points[[31, 29, 32, 30]]
    )
    assert (scores[FEET][[1, 4]] == 0).all()
    assert (scores[FEET][[0, 2, 3, 5]] > 0).all()


def test_hands_and_face_take_their_slots_and_one_confidence():
    left, right = hand((50, 50), handedness=0), hand((150, 50), handedness=1)
    face = Face(Square(0, 0, 1), np.random.default_rng(3).uniform(0, 100, (468, 2)), 0.7)
    points, scores = Person(body(), (left, right), face).points(HEIGHT, WIDTH)
    pixels = points * [WIDTH, HEIGHT]
    np.testing.assert_allclose(pixels[LEFT_HAND], left.points)
    np.testing.assert_allclose(pixels[RIGHT_HAND], right.points)
    np.testing.assert_allclose(pixels[FACE], face.points[FACE_POINTS])
    assert (scores[LEFT_HAND] == 0.8).all()
    assert (scores[FACE] == 0.7).all()


def test_what_is_absent_has_no_confidence():
    points, scores = Person(body(), (None, hand((150, 50), handedness=1)), None).points(HEIGHT, WIDTH)
    assert (scores[LEFT_HAND] == 0).all()
    assert (scores[FACE] == 0).all()
    assert np.isfinite(points).all()


def test_the_back_of_a_head_has_no_eyes():
    front = body()
    turned = front.points.copy()
    turned[[11, 12, 23, 24]] = turned[[12, 11, 24, 23]]
    back = body(turned)
    assert not faces_away(front)
    assert faces_away(back)
    head = [0, 14, 15]
    assert (Person(front, (None, None), None).points(HEIGHT, WIDTH)[1][head] > VISIBLE_ABOVE).all()
    assert (Person(back, (None, None), None).points(HEIGHT, WIDTH)[1][head] == 0).all()
    assert (
        Person(back, (None, None), None).points(HEIGHT, WIDTH)[1][17] > 0
    )  # ears are to be seen from behind


def test_face_points_are_68_different_vertices():
    assert len(FACE_POINTS) == len(set(FACE_POINTS.tolist())) == 68
    assert FACE_POINTS.max() < 468
    assert len(layout.BODY_POINTS) == 18


def test_a_hand_is_looked_for_beyond_the_wrist():
    points = np.zeros((39, 2))
    points[15], points[17], points[19] = (100, 100), (100, 85), (100, 85)  # fingers point up
    square = rough_square(body(points), 0)
    assert square.rotation == pytest.approx(0)
    assert square.side == pytest.approx(2.7 * 30)
    assert (square.x, square.y) == pytest.approx((100, 85 - 3))


def test_two_readings_of_one_hand_become_one():
    points = np.zeros((39, 2))
    points[15], points[16] = (100, 100), (140, 100)
    someone = body(points)
    at_left_wrist = {"left": hand((100, 100), handedness=0.1), "right": hand((101, 100), handedness=0.1)}
    assert _told_apart(at_left_wrist["left"], at_left_wrist["right"], someone) == (
        at_left_wrist["left"],
        None,
    )
    at_right_wrist = hand((139, 100), handedness=0.9), hand((140, 100), handedness=0.9)
    assert _told_apart(*at_right_wrist, someone) == (None, at_right_wrist[1])
    apart = hand((100, 100), handedness=0.9), hand((140, 100), handedness=0.1)
    assert _told_apart(*apart, someone) == apart


def test_the_distance_of_the_wrists_is_in_sizes_of_the_hand():
    points = np.zeros((39, 2))
    points[16] = (100, 100)
    assert wrist_distance(hand((130, 100), handedness=1, size=20), body(points), 1) == pytest.approx(1.5)


@pytest.mark.parametrize("turn", [0.0, 1.0, -2.5])
def test_the_next_square_of_a_hand_turns_and_grows_with_it(turn):
    fingers = np.random.default_rng(4).uniform(-1, 1, (21, 2)) * 10
    cos, sin = math.cos(turn), math.sin(turn)
    rotation = np.array([[cos, sin], [-sin, cos]])
    upright = Hand(Square(0, 0, 1), fingers, 1.0, 1.0).next_square
    turned = Hand(Square(0, 0, 1), 2 * fingers @ rotation + [50, 60], 1.0, 1.0).next_square
    assert turned.side == pytest.approx(2 * upright.side)
    assert math.cos(turned.rotation - upright.rotation - turn) == pytest.approx(1)
    expected = 2 * np.array([[upright.x, upright.y]]) @ rotation + [50, 60]
    np.testing.assert_allclose([[turned.x, turned.y]], expected, atol=1e-9)


def test_a_missing_hand_is_looked_for_at_the_wrist_along_forearm_and_hand():
    points = np.zeros((39, 2))
    points[[11, 12, 23, 24]] = [(120, 50), (80, 50), (110, 150), (90, 150)]  # a trunk of 100 pixels
    points[14], points[16], points[18], points[20] = (60, 100), (60, 140), (75, 150), (75, 150)
    squares = [tried_square(body(points), 1, attempt) for attempt in TRIES]
    assert len({(square.side, round(square.rotation, 3)) for square in squares}) == len(TRIES)
    for square, attempt in zip(squares, TRIES):
        assert square.side == pytest.approx(100 * attempt.side)
        assert math.hypot(square.x - 60, square.y - 140) < 0.3 * square.side
    straight = tried_square(body(points), 1, Try(False, 0.75, 0.0))
    assert (straight.x, straight.y) == pytest.approx((60, 140 + 0.24 * 75))
    assert math.cos(straight.rotation) == pytest.approx(-1)  # fingers down


@pytest.mark.parametrize("is_likely", [False, True])
def test_a_missing_hand_is_looked_for_in_every_try_within_a_few_frames(is_likely):
    frames = [_tries(number, is_likely=is_likely) for number in range(4)]
    assert {len(tries) for tries in frames} == {1 + is_likely}
    assert {attempt for tries in frames for attempt in tries} == set(TRIES)
    assert tuple(_tries(None, is_likely=is_likely)) == TRIES


@pytest.mark.parametrize(
    ("scores", "distance", "agree"),
    [
        ((0.9, 0.9), 0.25, True),
        ((0.9, 0.9), 0.35, False),
        ((0.35, 0.5), 0.1, True),
        ((0.35, 0.5), 0.25, False),
        ((0.35, 0.36), 0.1, False),
        ((0.2, 0.9), 0.05, False),
    ],
)
def test_readings_that_agree_closely_may_be_less_sure(scores, distance, agree):
    reading = hand((50, 50), handedness=1)
    first, second = (replace(reading, score=score) for score in scores)
    second = replace(second, points=second.points + np.array([distance * reading.size, 0]))
    assert _agree(first, second) == agree


def test_a_reading_of_the_other_hand_is_not_accepted():
    someone = body()
    at = tuple(someone.points[16])
    assert _accepted(hand(at, handedness=0.9), someone, 1) is not None
    assert _accepted(hand(at, handedness=0.01), someone, 1) is None
    assert _accepted(hand(tuple(someone.points[15]), handedness=0.99), someone, 0) is None


def test_a_square_moves_without_turning():
    square = Square(1.0, 2.0, 3.0, 0.5)
    assert square.moved(np.array([4.0, -1.0])) == Square(5.0, 1.0, 3.0, 0.5)
