"""Crops of people at shoulders and chest show the head where the benchmark says it is."""

import json

import numpy as np
import pytest

from benchmarks.portrait_crops import crops, finds, read_annotations
from mimic.dancers import World, render, sample_character, sample_motion
from pose import load_estimator
from pose.skeletons import LEFT_SHOULDER, NOSE, RIGHT_SHOULDER

SIZE = 512


@pytest.mark.slow
def test_a_rendered_dancer_is_found_in_both_crops_and_nobody_in_a_wall():
    rng, world = np.random.default_rng(0), World.plain()
    character, motion = sample_character(rng, world), sample_motion(rng, world, duration_s=1.0)
    clip = render(character, motion, [0.2], SIZE, SIZE, supersample=1)
    person = clip.poses.points[0, 0, [NOSE, LEFT_SHOULDER, RIGHT_SHOULDER]] * SIZE
    estimator = load_estimator("blazepose", device="cpu", num_threads=1)
    found = crops(clip.frames[0], person)
    assert set(found) == {"shoulders", "chest"}
    for crop, nose in found.values():
        corner = person[0] - nose
        np.testing.assert_array_equal(corner, corner.round())
        assert (nose < crop.shape[1::-1]).all()
        assert finds(estimator, crop, nose)
    assert not finds(estimator, np.full_like(crop, 90), nose)


def test_annotated_people_without_a_nose_are_left_out(tmp_path):
    seen = np.ones((17, 3)) * [10, 20, 2]
    hidden = seen.copy()
    hidden[0] = 0
    document = {
        "images": [{"id": 3, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 3, "keypoints": k.ravel().tolist()} for k in (seen, hidden)],
    }
    path = tmp_path / "people.json"
    path.write_text(json.dumps(document))
    people = read_annotations(path)
    assert list(people) == ["a.jpg"]
    np.testing.assert_array_equal(people["a.jpg"], [np.ones((3, 2)) * [10, 20]])
