"""Poses of other programs: what is written is read again, what is malformed is one sentence."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pose import PoseError, PoseSequence
from pose.skeletons import BODY, FACE, LEFT_HAND, NECK, RIGHT_HAND
from tests.pose.figures import beside, clip


def people() -> PoseSequence:
    """Two people; the second is away in the last frame, and a hand of the first is missing."""
    both = beside(clip(num_frames=3, jitter=1.0), clip(num_frames=3, at=(90.0, 20.0), seed=1))
    both.scores[:] = np.random.default_rng(0).uniform(0.35, 1.0, both.scores.shape)
    both.scores[:, 0, LEFT_HAND] = 0.0
    both.scores[1, 1, 4] = 0.2
    both.is_present[2, 1] = False
    return both


def written(tmp_path, content):
    path = tmp_path / "given.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(("format", "name"), [("openpose", "p.json"), ("coco", "p.json"), ("npz", "p.npz")])
def test_what_is_saved_is_loaded(tmp_path, format, name):
    poses = people()
    poses.scores[:, :, NECK] = poses.scores[:, :, [2, 5]].min(axis=-1)  # COCO has no neck point
    poses.points[:, :, NECK] = poses.points[:, :, [2, 5]].mean(axis=2)
    loaded = PoseSequence.load(poses.save(tmp_path / name, format=format))
    assert (len(loaded), loaded.height, loaded.width) == (3, 160, 120)
    np.testing.assert_array_equal(loaded.is_present, poses.is_present)
    here, seen = poses.is_present, poses.is_present[..., None] & (poses.scores > 0)
    np.testing.assert_allclose(loaded.points[seen], poses.points[seen], atol=1e-12)
    np.testing.assert_allclose(loaded.scores[here], poses.scores[here], atol=1e-12)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("format", ["openpose", "coco"])
def test_frame_rate_and_metadata_are_kept(tmp_path, format):
    poses = clip(num_frames=2, fps=12.5)
    path = poses.save(tmp_path / "a.json", format)
    loaded = PoseSequence.load(path)
    assert (loaded.fps, loaded.metadata) == (12.5, {"source": "test", "format": format})
    assert PoseSequence.load(path, fps=30.0).fps == 30.0


def test_the_frame_rate_of_other_programs_is_given_or_25(tmp_path):
    path = written(tmp_path, [{"people": [comfyui_person()], "canvas_height": 160, "canvas_width": 120}])
    assert PoseSequence.load(path).fps == 25.0
    assert PoseSequence.load(path, fps=12.5).fps == 12.5


def test_openpose_json_has_the_layout_of_comfyui(tmp_path):
    frames = json.loads(people().save(tmp_path / "p.json").read_text())
    assert [(frame["canvas_height"], frame["canvas_width"]) for frame in frames] == [(160, 120)] * 3
    assert [len(frame["people"]) for frame in frames] == [2, 2, 1]
    person = frames[1]["people"][1]
    assert len(person["pose_keypoints_2d"]) == 54
    assert len(person["hand_left_keypoints_2d"]) == len(person["hand_right_keypoints_2d"]) == 63
    assert len(person["face_keypoints_2d"]) == 204
    assert frames[0]["people"][0]["hand_left_keypoints_2d"] is None
    scores = person["pose_keypoints_2d"][2::3]
    assert scores[4] < 1.0  # its reader leaves such points out
    assert all(score == 1.0 for joint, score in enumerate(scores) if joint != 4)
    x, y = people().points[1, 1, 0] * [120, 160]
    assert person["pose_keypoints_2d"][:2] == pytest.approx([x, y])


def comfyui_person(scale=(1.0, 1.0), face_points=68):
    """A person as ComfyUI's node writes one: pixels or fractions, every score 1, no hands."""
    pixels = clip().points[0, 0] * [120, 160] / scale

    def flat(points):
        return [number for x, y in points for number in (float(x), float(y), 1.0)]

    face = np.concatenate([pixels[FACE], pixels[[14, 15]]])[:face_points]
    return {
        "pose_keypoints_2d": flat(pixels[BODY]),
        "face_keypoints_2d": flat(face),
        "hand_left_keypoints_2d": None,
        "hand_right_keypoints_2d": [],
    }


@pytest.mark.parametrize("scale", [(1.0, 1.0), (120.0, 160.0)])
@pytest.mark.parametrize("face_points", [68, 70])
def test_pixels_and_fractions_are_told_apart(tmp_path, scale, face_points):
    frame = {"people": [comfyui_person(scale, face_points)], "canvas_height": 160, "canvas_width": 120}
    for content in (frame, [frame, {**frame, "people": []}]):
        loaded = PoseSequence.load(written(tmp_path, content))
        np.testing.assert_allclose(loaded.points[0, 0, BODY], clip().points[0, 0, BODY])
        np.testing.assert_allclose(loaded.points[0, 0, FACE], clip().points[0, 0, FACE])
        assert (loaded.scores[0, 0, RIGHT_HAND] == 0).all()
    np.testing.assert_array_equal(loaded.is_present, [[True], [False]])


def test_a_folder_of_openpose_with_25_joints_is_a_clip(tmp_path):
    joints = np.zeros((25, 3))
    joints[:, 0], joints[:, 1], joints[:, 2] = np.arange(25), 2 * np.arange(25), 0.5
    person = {"person_id": [-1], "pose_keypoints_2d": joints.ravel().tolist()}
    for number in (1, 0, 2):
        joints[0, 0] = 50 + number
        person["pose_keypoints_2d"] = joints.ravel().tolist()
        file = tmp_path / f"clip_{number:012d}_keypoints.json"
        file.write_text(json.dumps({"version": 1.3, "people": [person]}))
    with pytest.raises(PoseError, match=r"does not say the size of its frames; give it: height=…, width=…"):
        PoseSequence.load(tmp_path)
    loaded = PoseSequence.load(tmp_path, height=100, width=100, fps=30.0)
    assert (len(loaded), loaded.fps) == (3, 30.0)
    np.testing.assert_allclose(loaded.points[:, 0, 0, 0], [0.5, 0.51, 0.52])
    pixels = loaded.points[0, 0] * 100
    assert pixels[8, 0] == pytest.approx(9)  # the right hip comes after the middle of the hips
    assert pixels[18, 0] == pytest.approx(19)  # and the feet at the end
    (tmp_path / "empty").mkdir()
    with pytest.raises(PoseError, match=r"no \.json file"):
        PoseSequence.load(tmp_path / "empty")


def test_annotations_of_people_have_hidden_and_visible_points(tmp_path):
    def flat(count, values):
        return [number for i in range(count) for number in (10.0 + i, 20.0, values[i % len(values)])]

    annotation = {
        "image_id": 785, "category_id": 1, "keypoints": flat(17, [2, 1, 0]), "foot_kpts": flat(6, [2]),
        "face_kpts": flat(68, [1.0]), "lefthand_kpts": flat(21, [0.0]), "righthand_kpts": flat(21, [1]),
    }  # fmt: skip
    image = {"id": 785, "height": 425, "width": 640}
    content = {"images": [image, {**image, "id": 786}], "annotations": [annotation]}
    loaded = PoseSequence.load(written(tmp_path, content))
    assert (loaded.num_frames, loaded.num_people) == (2, 1)
    np.testing.assert_array_equal(loaded.is_present, [[True], [False]])
    assert loaded.scores[0, 0, 0] == 1.0  # the nose, visible
    assert loaded.scores[0, 0, 15] == 0.4  # the left eye, hidden
    assert loaded.scores[0, 0, 14] == 0.0
    assert (loaded.scores[0, 0, LEFT_HAND] == 0).all()
    assert (loaded.scores[0, 0, RIGHT_HAND] == 1).all()
    results = written(tmp_path, [annotation])
    with pytest.raises(PoseError, match="does not say the size of its pictures"):
        PoseSequence.load(results)
    assert len(PoseSequence.load(results, height=425, width=640)) == 1


FRAME = {"people": [comfyui_person()], "canvas_height": 160, "canvas_width": 120}
IMAGE = {"id": 0, "height": 16, "width": 12}


def changed(**changes):
    return {**FRAME, "people": [{**comfyui_person(), **changes}]}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "cannot be read as JSON"),
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ([], "does not say the size|is no pose file"),
        ({}, "is no pose file"),
        ("3", "is no pose file"),
        ({"people": 3, "canvas_height": 1, "canvas_width": 1}, "expected a list of people"),
        ({**FRAME, "people": [3]}, "expected a list of people"),
        ({**FRAME, "canvas_height": 0}, "height is 0; expected a size in pixels"),
        ({**FRAME, "canvas_width": "wide"}, "width is 'wide'"),
        ({**FRAME, "canvas_width": None}, "does not say the size"),
        ([FRAME, {**FRAME, "canvas_width": 60}], "frames of one clip have one size"),
        ([FRAME, 3], "expected a list of people"),
        (changed(pose_keypoints_2d=[1.0, 2.0, 1.0]), "is a list of 3; expected 54 or 75 numbers"),
        (changed(pose_keypoints_2d="points"), "is a str; expected"),
        (changed(pose_keypoints_2d=["1"] * 54), "is a list of 54; expected"),
        (changed(hand_left_keypoints_2d=[True] * 63), "expected 63 numbers"),
        (changed(face_keypoints_2d={"x": 1}), "is a dict; expected"),
        (json.dumps(changed(pose_keypoints_2d=[float("nan")] * 54)), "not finite"),
        (json.dumps(changed(pose_keypoints_2d=[float("inf")] * 54)), "not finite"),
        ({"images": [IMAGE], "annotations": 3}, "is no pose file"),
        ({"images": [IMAGE], "annotations": [{"image_id": 9}]}, "there is no image with the id 9"),
        ({"images": [IMAGE], "annotations": [{"image_id": [0]}]}, "there is no image with the id"),
        ({"images": [{"id": 0}], "annotations": []}, "height of an image is None"),
        ({"images": [IMAGE, IMAGE], "annotations": []}, "needs a different id"),
        ({"images": [IMAGE, {**IMAGE, "id": 1, "width": 9}], "annotations": []}, "pictures of 2 sizes"),
        ({"images": 3, "annotations": []}, "images is no list"),
        (
            {"images": [IMAGE], "annotations": [{"image_id": 0, "keypoints": [1, 2]}]},
            "list of 2; expected 51",
        ),
        ({"images": [IMAGE], "annotations": [{"image_id": 0, "keypoints": 5}]}, "is a int; expected 51"),
        ({"images": [IMAGE], "annotations": [{"image_id": 0, "keypoints": {"x": 1}}]}, "is a dict; expected"),
        (
            {"images": [IMAGE], "annotations": [{"image_id": 0, "keypoints": [1, 2, [3]]}]},
            "list of 3; expected 51",
        ),
        (changed(pose_keypoints_2d=[10**400] * 54), "not finite"),
        ({**FRAME, "canvas_height": 10**400}, "height is too large; expected a size in pixels, 1 to 1000000"),
        ({**FRAME, "canvas_height": 1e308}, "height is too large"),
    ],
)
def test_malformed_files_are_one_sentence(tmp_path, content, sentence):
    with pytest.raises(PoseError, match=sentence) as error:
        PoseSequence.load(written(tmp_path, content))
    assert "\n" not in str(error.value).strip()


@pytest.mark.parametrize("fps", [10**400, -1, 0, "fast", True])
def test_a_frame_rate_that_cannot_be_is_one_sentence_or_25(tmp_path, fps):
    path = written(tmp_path, {**FRAME, "mimic": {"fps": fps}})
    if fps in (0, -1):
        with pytest.raises(PoseError, match="a frame rate from"):
            PoseSequence.load(path)
    else:
        assert PoseSequence.load(path).fps == 25


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
@pytest.mark.parametrize("name", ["a.npz", "a.json"])
def test_a_pipe_in_place_of_poses_is_named_without_waiting(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(PoseError, match="is a named pipe; expected a file of poses"):
        PoseSequence.load(tmp_path / name)


def test_an_unknown_format_and_a_missing_file(tmp_path):
    with pytest.raises(PoseError, match="no pose format 'bvh'; use one of npz, openpose, coco"):
        clip().save(tmp_path / "a.bvh", format="bvh")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        PoseSequence.load(tmp_path / "none.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"points": np.full((1, 1, 134, 2), np.nan)},
        {"scores": np.full((1, 1, 134), np.inf)},
        {"points": "here"},
        {"scores": [[["high"] * 134]]},
        {"height": "tall"},
        {"height": float("nan")},
        {"height": 5.5},
        {"width": 10**400},
        {"fps": 1e300},
        {"metadata": 5},
        {"fps": None},
        {"fps": float("nan")},
        {"fps": float("inf")},
    ],
)
def test_what_is_no_number_is_no_pose(changes):
    with pytest.raises(PoseError):
        replace(clip(), **changes)


def test_a_damaged_npz_with_nan_is_refused(tmp_path):
    path = clip().save(tmp_path / "p.npz")
    with np.load(path) as file:
        arrays = dict(file)
    arrays["points"][0, 0, 3] = np.nan
    np.savez(path, **arrays)
    with pytest.raises(PoseError, match="not finite"):
        PoseSequence.load(path)


def test_a_small_file_that_unpacks_to_gigabytes_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "zeros.npz"
    np.savez_compressed(path, header=np.array("{}"), points=np.zeros((1000, 1, 134, 2)))
    monkeypatch.setattr("pose.formats.npz.MAX_BYTES", 2**20)
    with pytest.raises(PoseError, match="it unpacks to 0 GiB, more than poses of a clip take"):
        PoseSequence.load(path)
