"""DWPose equals the released code on every case, in whatever batches and threads it runs."""

import logging

import numpy as np
import pytest

from pose.dwpose import DWPose, EstimatorWeightsError, find_weights, to_openpose
from pose.released import to_dwpose_dict
from pose.types import PoseError
from tests.media import even_times, write_clip
from tests.pose.released_onnx import DETECTOR, NAMES, POSE, SIZE_HW, golden, picture

BIN = 0.5 / np.array(
    [SIZE_HW[1], SIZE_HW[0]]
)  # of a crop's size; README of the goldens: crops may differ so much


@pytest.fixture(scope="module")
def released():
    return DWPose(DETECTOR, POSE, device="cpu", num_threads=2, whole_image_if_nobody=True)


@pytest.fixture(scope="module")
def ours():
    return DWPose(DETECTOR, POSE, device="cpu", num_threads=2)


@pytest.fixture(scope="module")
def any_batch_file(tmp_path_factory):
    """The pose network with its batch dimension made free: 1 becomes 'any' in shapes and reshapes."""
    content = POSE.read_bytes()
    dim_of_one, dim_unnamed = b"\x0a\x02\x08\x01", b"\x0a\x02\x12\x00"
    one, any_number = np.int64(1).tobytes(), np.int64(-1).tobytes()
    assert content.count(dim_of_one) == 3  # one input, two outputs
    content = content.replace(dim_of_one, dim_unnamed)
    for rest in (np.int64([144]), np.int64([133, 1])):
        assert content.count(one + rest.tobytes()) == 1
        content = content.replace(one + rest.tobytes(), any_number + rest.tobytes())
    path = tmp_path_factory.mktemp("dwpose") / "pose_any_batch.onnx"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_whole_body_points_equal_the_released_ones(released, name):
    image = picture(name)
    poses = released.image(image)
    expected = golden(name)
    pixels = poses.points[0] * [image.shape[1], image.shape[0]]
    one_bin = BIN * expected["scales"][:, None]
    assert (np.abs(pixels - expected["wholebody_keypoints"]) <= one_bin * (1 + 1e-3)).all()
    np.testing.assert_allclose(poses.scores[0], expected["wholebody_scores"], atol=1e-3)
    assert (poses.height, poses.width, len(poses)) == (*image.shape[:2], 1)


@pytest.mark.parametrize("name", NAMES)
def test_dictionaries_equal_the_released_ones(released, name):
    image = picture(name)
    ours, expected = to_dwpose_dict(released.image(image)), golden(name)
    one_bin = (BIN * expected["scales"].max(axis=0) / [image.shape[1], image.shape[0]]) * (1 + 1e-3)
    for key, value in ours.items():
        theirs = expected[f"detector_{key}"]
        assert value.shape == theirs.shape, key
        if key == "bodies_subset":
            np.testing.assert_array_equal(value, theirs)
        elif key.endswith("score"):
            np.testing.assert_allclose(value, theirs, atol=1e-3)
        else:
            assert (np.abs(value - theirs) <= one_bin).all(), key


def test_openpose_order_and_neck_equal_the_released_ones():
    for name in NAMES:
        expected = golden(name)
        for i, (points, scores) in enumerate(zip(expected["keypoints"], expected["scores"])):
            our_points, our_scores = to_openpose(points, scores)
            np.testing.assert_array_equal(our_points, expected["wholebody_keypoints"][i])
            np.testing.assert_array_equal(our_scores, expected["wholebody_scores"][i])


def test_a_free_batch_gives_the_same_poses(ours, any_batch_file):
    batched = DWPose(DETECTOR, any_batch_file, device="cpu", num_threads=1)
    assert not batched.network.has_fixed_batch
    assert ours.network.has_fixed_batch
    for name in NAMES:
        expected, found = ours.image(picture(name)), batched.image(picture(name))
        np.testing.assert_allclose(found.points, expected.points, atol=1e-12)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_batches_are_cut_to_size(ours, any_batch_file):
    """More people than one batch holds, over several frames."""
    batched = DWPose(DETECTOR, any_batch_file, device="cpu", num_threads=2)
    clip = [picture("img3_96x128")] * 3  # four people each
    together = batched.frames(clip, fps=5, person="all")
    assert together.points.shape == (3, 4, 134, 2)
    alone = ours.image(clip[0])
    for frame in together.frames():
        assert np.abs(np.sort(frame.points[0, :, 0, 0]) - np.sort(alone.points[0, :, 0, 0])).max() < 1e-12


def test_nobody_is_nobody_unless_the_released_way_is_asked_for(ours, released):
    assert ours.image(picture("img2_150x210")).num_people == 0
    assert released.image(picture("img2_150x210")).num_people == 1


def test_frames_follow_one_person_and_survive_frames_with_nobody(ours):
    with_people = picture("img0_360x480")
    nobody = np.full_like(with_people, 127)
    steps = []
    sequence = ours.frames(
        iter([nobody, with_people, nobody, nobody, with_people, nobody]),
        fps=12,
        person=1,
        total=6,
        progress=lambda done, total: steps.append((done, total)),
    )
    alone = ours.image(with_people)
    right = int(alone.points[0, :, 1, 0].argmax())
    assert sequence.points.shape == (6, 1, 134, 2)
    assert sequence.fps == 12
    np.testing.assert_array_equal(sequence.points[:, 0], np.stack([alone.points[0, right]] * 6))
    np.testing.assert_array_equal(sequence.scores[[0, 2, 3, 5]], 0)
    np.testing.assert_array_equal(sequence.scores[1, 0], alone.scores[0, right])
    assert sequence.is_present.all()
    assert steps == [(i, 6) for i in range(1, 7)]


def test_nobody_in_any_frame_is_one_sentence(ours):
    with pytest.raises(PoseError, match="nobody was found in any of the 3 frames"):
        ours.frames([np.full((64, 64, 3), 127, np.uint8)] * 3, fps=10)


def test_a_video_is_its_frames(ours, tmp_path):
    path = write_clip(tmp_path / "clip.mp4", even_times(5, 20), fps=20, height=96, width=128)
    sequence = ours.video(path, stride=2, max_frames=2)  # the red corner of each frame fires the stub
    assert (len(sequence), sequence.fps, sequence.height, sequence.width) == (2, 10, 96, 128)
    assert sequence.metadata == {
        "estimator": "dwpose",
        "person": "largest",
        "most_people": 7,
        "source": "clip.mp4",
        "stride": 2,
    }


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "the clip has no frames"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)], "frame 1 is 9x8, the first 8x8"),
        ([np.zeros((8, 8, 3), np.float32)], r"a picture is float32 \(8, 8, 3\); expected RGB uint8"),
        ([np.zeros((8, 8), np.uint8)], "expected RGB uint8"),
    ],
)
def test_wrong_frames_are_named(ours, frames, message):
    with pytest.raises(PoseError, match=message):
        ours.frames(frames, fps=10)


@pytest.mark.parametrize("place", ["argument", "variable", "XDG cache", "home cache"])
def test_weights_are_found_where_they_may_be(tmp_path, monkeypatch, place):
    monkeypatch.delenv("MIMIC_DWPOSE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folders = {"XDG cache": "cache/mimic/dwpose", "home cache": "home/.cache/mimic/dwpose"}
    folder = tmp_path / folders.get(place, "weights")
    folder.mkdir(parents=True)
    for name in ("yolox_l.onnx", "dw-ll_ucoco_384.onnx"):
        (folder / name).touch()
    if place == "variable":
        monkeypatch.setenv("MIMIC_DWPOSE", str(folder))
    if place == "XDG cache":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = find_weights(folder if place == "argument" else None)
    assert files.detector == folder / "yolox_l.onnx"
    assert files.pose == folder / "dw-ll_ucoco_384.onnx"


def test_missing_weights_tell_what_and_how(tmp_path):
    (tmp_path / "yolox_l.onnx").touch()
    message = r"dw-ll_ucoco_384\.onnx in .*`mimic download dwpose`"
    with pytest.raises(EstimatorWeightsError, match=message) as caught:
        find_weights(tmp_path)
    assert isinstance(caught.value, FileNotFoundError)
    assert "yolox_l" not in str(caught.value)


def test_estimating_is_quiet(ours, caplog):
    with caplog.at_level(logging.DEBUG):
        ours.image(picture("img0_360x480"))
    assert caplog.records == []
