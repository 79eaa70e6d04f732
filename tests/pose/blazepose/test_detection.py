"""Anchors, clusters and windows of the detectors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose.blazepose.detection import (
    FACE_STRIDES,
    FRAMED_SHARES,
    PERSON_STRIDES,
    anchors,
    decode,
    framed_view,
    merge,
    whole_view,
    window_views,
)
from pose.blazepose.networks import PERSON_SIZE


def test_anchors_are_counted_and_ordered_by_cell():
    person, face = anchors(224, PERSON_STRIDES), anchors(128, FACE_STRIDES)
    assert person.shape == (28 * 28 * 2 + 14 * 14 * 2 + 7 * 7 * 6, 2)
    assert face.shape == (16 * 16 * 2 + 8 * 8 * 6, 2)
    np.testing.assert_allclose(person[:4], [[0.5 / 28, 0.5 / 28]] * 2 + [[1.5 / 28, 0.5 / 28]] * 2)
    last = person[28 * 28 * 2 + 14 * 14 * 2 :]
    np.testing.assert_allclose(last[:6], [[0.5 / 7, 0.5 / 7]] * 6)
    np.testing.assert_allclose(last[6], [1.5 / 7, 0.5 / 7])


def test_rows_are_read_relative_to_their_anchor():
    boxes, scores = np.zeros((896, 16), np.float32), np.zeros(896, np.float32)
    scores[37] = 0.9
    boxes[37, :6] = [1.28, 2.56, 64, 32, 12.8, -6.4]
    points, found = decode(boxes, scores, 128, FACE_STRIDES)
    assert points.shape == (1, 6, 2)
    assert found == pytest.approx([0.9])
    np.testing.assert_allclose(points[0, 0], anchors(128, FACE_STRIDES)[37] + [0.1, -0.05], atol=1e-6)


def test_nothing_found_keeps_its_shape():
    points, scores = decode(np.zeros((896, 16), np.float32), np.zeros(896, np.float32), 128, FACE_STRIDES)
    assert points.shape == (0, 6, 2)
    assert scores.shape == (0,)


def test_a_cluster_becomes_its_mean_weighted_by_score():
    corners = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]], dtype=float)
    points = np.array([[[0.0, 0.0]], [[4.0, 8.0]], [[55.0, 55.0]]])
    merged, scores = merge(corners, points, np.array([0.6, 0.9, 0.7]))
    np.testing.assert_allclose(merged[:, 0], [[0.9 * 4 / 1.5, 0.9 * 8 / 1.5], [55, 55]])
    np.testing.assert_allclose(scores, [0.9, 0.7])


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 20))
def test_clusters_use_every_box_once_and_come_best_first(seed, count):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 10, (count, 2))
    corners = np.concatenate([corner, corner + rng.uniform(0, 6, (count, 2))], axis=1)
    scores = rng.uniform(0.5, 1, count)
    merged, found = merge(corners, rng.uniform(0, 1, (count, 4, 2)), scores)
    assert 1 <= len(merged) <= count
    assert (np.diff(found) <= 0).all()
    assert set(found) <= set(scores)
    assert found[0] == scores.max()


@pytest.mark.parametrize("size", [(1080, 1920), (1920, 1080), (342, 548), (224, 224), (100, 60), (5, 900)])
def test_the_whole_view_maps_corners_to_corners(size):
    height, width = size
    picture = np.full((height, width, 3), 255, np.uint8)
    view = whole_view(picture, 224)
    rows, columns = np.nonzero(view.image[..., 0])
    box = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]]) / 224
    np.testing.assert_allclose(view.to_picture(box), [[0, 0], [width, height]], atol=1e-6)
    assert max(np.ptp(columns), np.ptp(rows)) == 223


def test_tiny_pictures_have_no_windows():
    assert window_views(np.zeros((3, 500, 3), np.uint8), 64) == []


@pytest.mark.parametrize("size", [(480, 640), (640, 360), (200, 301), (90, 1000)])
def test_windows_cover_the_picture_and_stay_inside(size):
    height, width = size
    covered = np.zeros(size, dtype=bool)
    for view in window_views(np.zeros((*size, 3), np.uint8), 64):
        assert view.image.shape == (64, 64, 3)
        (x, y), (side, _) = view.corner, view.sides
        assert 0 <= x <= x + side <= width
        assert 0 <= y <= y + side <= height
        covered[int(y) : int(y + side), int(x) : int(x + side)] = True
    assert covered.all()


@pytest.mark.parametrize("share", FRAMED_SHARES)
def test_a_framed_view_knows_where_the_picture_lies(share):
    picture = np.full((60, 90, 3), 200, np.uint8)
    view = framed_view(picture, share)
    rows, columns = np.nonzero(view.image[..., 0])
    corners = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]]) / PERSON_SIZE
    np.testing.assert_allclose(view.to_picture(corners), [[0, 0], [90, 60]], atol=2.0)
