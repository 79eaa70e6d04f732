"""Crops and decoding equal the released ones; a point goes to the crop and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose import simcc
from pose.session import Network
from tests.pose.released_onnx import NAMES, POSE, SIZE_HW, golden, picture


@pytest.fixture(scope="module")
def network():
    return Network(POSE, device="cpu", num_threads=1)


def regions(name):
    """The released centres and sizes."""
    return golden(name)["centers"], golden(name)["scales"]


@pytest.mark.parametrize("name", NAMES)
def test_crop_regions_equal_the_released_ones(name):
    height, width = picture(name).shape[:2]
    boxes = golden(name)["boxes"] if len(golden(name)["boxes"]) else np.array([[0, 0, width, height]])
    for box, centre, size in zip(boxes, *regions(name), strict=True):
        ours = simcc.crop_region(box, SIZE_HW)
        np.testing.assert_allclose(ours[0], centre, atol=1e-3)
        np.testing.assert_allclose(ours[1], size, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_crops_equal_the_released_ones_within_two_grey_levels(name):
    for i, region in enumerate(zip(*regions(name))):
        crop = simcc.crop(picture(name), *region, SIZE_HW)
        difference = np.abs(crop.astype(int) - picture(f"{name}_crop{i}"))
        assert difference.max() <= 2
        assert (difference > 0).mean() <= 0.11


@pytest.mark.parametrize("name", NAMES)
def test_keypoints_of_the_released_crops_equal_the_released_ones(network, name):
    """With the very crop that the released code saw there is nothing left to differ."""
    centres, sizes = regions(name)
    crops = np.stack([picture(f"{name}_crop{i}") for i in range(len(centres))])
    outputs = network(simcc.normalise(crops))
    for axis in ("simcc_x", "simcc_y"):
        np.testing.assert_array_equal(outputs[axis].argmax(axis=2), golden(name)[f"{axis}_argmax"])
        np.testing.assert_allclose(outputs[axis].max(axis=2), golden(name)[f"{axis}_max"], atol=1e-4)
    points, scores = simcc.decode(outputs["simcc_x"], outputs["simcc_y"], centres, sizes, SIZE_HW)
    np.testing.assert_allclose(points, golden(name)["keypoints"], atol=1e-3)
    np.testing.assert_allclose(scores, golden(name)["scores"], atol=1e-4)


@settings(deadline=None)
@given(st.floats(-50, 300), st.floats(-50, 300), st.floats(4, 400), st.floats(4, 400))
def test_a_region_holds_its_box_and_has_the_crop_s_shape(x, y, width, height):
    centre, size = simcc.crop_region(np.array([x, y, x + width, y + height]), SIZE_HW)
    assert size[0] / size[1] == pytest.approx(SIZE_HW[1] / SIZE_HW[0])
    assert (size >= np.array([width, height]) * 1.25 * (1 - 1e-9)).all()
    np.testing.assert_allclose(centre, [x + width / 2, y + height / 2], atol=1e-6)


def test_a_peak_comes_back_to_its_place_in_the_picture():
    image = np.zeros((200, 300, 3), np.uint8)
    image[120:124, 80:84] = 255
    centre, size = simcc.crop_region(np.array([40.0, 60.0, 140.0, 180.0]), SIZE_HW)
    crop = simcc.crop(image, centre, size, SIZE_HW)[..., 0].astype(float)
    rows, columns = np.nonzero(crop > 128)
    simcc_x, simcc_y = np.zeros((1, 1, 576), np.float32), np.zeros((1, 1, 768), np.float32)
    simcc_x[0, 0, round(2 * columns.mean())] = simcc_y[0, 0, round(2 * rows.mean())] = 0.8
    points, scores = simcc.decode(simcc_x, simcc_y, centre[None], size[None], SIZE_HW)
    np.testing.assert_allclose(points[0, 0], [81.5, 121.5], atol=0.5)
    assert scores[0, 0] == pytest.approx(0.8)


def test_without_a_positive_peak_a_point_lies_just_outside_the_crop():
    simcc_x, simcc_y = np.full((1, 2, 576), -1.0, np.float32), np.full((1, 2, 768), -1.0, np.float32)
    simcc_x[0, 1, 10] = simcc_y[0, 1, 20] = 0.5
    centre, size = np.array([[100.0, 100.0]]), np.array([[72.0, 96.0]])
    points, scores = simcc.decode(simcc_x, simcc_y, centre, size, SIZE_HW)
    corner = centre[0] - size[0] / 2
    np.testing.assert_allclose(points[0, 0], corner - 0.5 * size[0] / [288, 384])
    assert scores[0, 0] == -1
    assert (points[0, 1] > corner).all()
