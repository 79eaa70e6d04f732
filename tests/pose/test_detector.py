"""YOLOX equals the released detector on every case; suppression keeps what it should."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose.detector import PersonDetector, letterbox, people, suppress
from tests.pose.released_onnx import DETECTOR, GOLDENS, NAMES, golden, picture


@pytest.fixture(scope="module")
def detector():
    return PersonDetector(DETECTOR, device="cpu", num_threads=1)


@pytest.mark.parametrize("name", NAMES)
def test_input_and_raw_output_equal_the_released_ones(detector, name):
    image, ratio = letterbox(picture(name), (640, 640))
    assert ratio == golden(name)["ratio"]
    (raw,) = detector.network(image.astype(np.float32).transpose(2, 0, 1)[None]).values()
    np.testing.assert_allclose(raw[0, ::32], golden(name)["det_output_every32"], atol=1e-4)


def test_padded_input_equals_the_released_one():
    image, _ = letterbox(picture("img0_360x480"), (640, 640))
    np.testing.assert_array_equal(image, picture("img0_360x480_padded"))


@pytest.mark.parametrize("name", NAMES)
def test_detections_and_boxes_equal_the_released_ones(detector, name):
    detections = detector.detect(picture(name))
    np.testing.assert_allclose(detections, golden(name)["all_dets_after_nms"], atol=1e-3)
    boxes = golden(name)["boxes"].reshape(-1, 4)
    np.testing.assert_allclose(people(detections), boxes, atol=1e-3)
    np.testing.assert_array_equal(detector(picture(name)), people(detections))


def test_other_classes_and_low_scores_are_no_people():
    detections = np.array([[0, 0, 9, 9, 0.9, 0], [0, 0, 9, 9, 0.3, 0], [0, 0, 9, 9, 0.9, 1]], dtype=float)
    assert len(people(detections)) == 1


def test_suppression_equals_the_released_one():
    with np.load(GOLDENS / "nms.npz") as file:
        kept = suppress(file["boxes"], file["scores"], 0.45)
        np.testing.assert_array_equal(kept, file["keep"])


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 30))
def test_suppression_keeps_the_best_and_nothing_that_overlaps(seed, count):
    rng = np.random.default_rng(seed)
    corner, sides = rng.uniform(0, 100, (count, 2)), rng.uniform(5, 60, (count, 2))
    boxes, scores = np.concatenate([corner, corner + sides], axis=1), rng.uniform(size=count)
    kept = suppress(boxes, scores, 0.45)
    assert (np.diff(scores[kept]) <= 0).all()
    if count:
        assert kept[0] == scores.argmax()
    for i in kept:
        for j in kept:
            width, height = (
                min(boxes[i, k + 2], boxes[j, k + 2]) - max(boxes[i, k], boxes[j, k]) + 1 for k in (0, 1)
            )
            shared = max(width, 0) * max(height, 0)
            areas = [(boxes[k, 2] - boxes[k, 0] + 1) * (boxes[k, 3] - boxes[k, 1] + 1) for k in (i, j)]
            assert i == j or shared / (sum(areas) - shared) <= 0.45
