"""PoseSequence: what it accepts, indexes, joins, and keeps on disk."""

import json

import numpy as np
import pytest

from pose import PoseError, PoseSequence
from pose.types import FORMAT_VERSION, NUM_POINTS, concatenate
from tests.pose.figures import beside, clip


def test_saving_and_loading_keeps_everything(tmp_path):
    two = beside(clip(num_frames=3, jitter=1.0), clip(num_frames=3, at=(90.0, 20.0), seed=1))
    poses = PoseSequence(
        two.points - 0.5,
        two.scores * 1.7,
        160,
        120,
        23.976,
        np.array([[1, 1], [1, 0], [0, 0]], bool),
        {"é": [1, "a"]},
    )
    loaded = PoseSequence.load(poses.save(tmp_path / "poses.npz"))
    for name in ("points", "scores", "is_present"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(poses, name))
    assert (loaded.height, loaded.width, loaded.fps, loaded.metadata) == (160, 120, 23.976, {"é": [1, "a"]})


def test_saving_leaves_nothing_beside_the_file(tmp_path):
    clip().save(tmp_path / "poses.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["poses.npz"]


def test_a_failed_save_keeps_the_old_file(tmp_path):
    path = clip(num_frames=2).save(tmp_path / "poses.npz")
    unwritable = clip()
    unwritable.metadata["source"] = object()
    with pytest.raises(TypeError):
        unwritable.save(path)
    assert len(PoseSequence.load(path)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["poses.npz"]


def rewrite_header(path, **changes):
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays["header"]))
    header.update(changes)
    arrays["header"] = np.array(json.dumps({k: v for k, v in header.items() if v is not None}))
    np.savez(path, **arrays)


def test_a_file_of_a_later_version_says_so(tmp_path):
    path = clip().save(tmp_path / "poses.npz")
    rewrite_header(path, version=FORMAT_VERSION + 1, metadata=None)
    with pytest.raises(PoseError, match=f"pose format {FORMAT_VERSION + 1}.*Update"):
        PoseSequence.load(path)


@pytest.mark.parametrize(
    "changes",
    [{"format": "other"}, {"format": None}, {"version": None}, {"version": "x"}, {"fps": None}, {"fps": -1}],
)
def test_a_wrong_header_is_a_pose_error(tmp_path, changes):
    path = clip().save(tmp_path / "poses.npz")
    rewrite_header(path, **changes)
    with pytest.raises(PoseError, match="not a pose file"):
        PoseSequence.load(path)


def test_damaged_files_are_pose_errors(tmp_path):
    path = clip().save(tmp_path / "poses.npz")
    whole = path.read_bytes()
    middle = len(whole) // 2
    for damaged in (
        b"",
        b"no zip",
        whole[:-100],
        whole[:middle] + bytes(b ^ 255 for b in whole[middle : middle + 8]) + whole[middle + 8 :],
    ):
        path.write_bytes(damaged)
        with pytest.raises(PoseError, match="not a pose file"):
            PoseSequence.load(path)
    np.savez(path, other=np.zeros(3))
    with pytest.raises(PoseError, match="not a pose file"):
        PoseSequence.load(path)


def test_a_pickle_is_not_opened(tmp_path):
    path = tmp_path / "poses.npz"
    np.savez(path, header=np.array([{}], dtype=object))
    with pytest.raises(PoseError, match="allow_pickle"):
        PoseSequence.load(path)


def test_a_missing_file_is_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        PoseSequence.load(tmp_path / "none.npz")


def test_indexing():
    poses = clip(num_frames=5, step=(3.0, 0.0))
    assert len(poses[3]) == 1
    np.testing.assert_array_equal(poses[-1].points, poses.points[4:])
    np.testing.assert_array_equal(poses[1:4:2].points, poses.points[[1, 3]])
    np.testing.assert_array_equal(poses[[4, 0]].points, poses.points[[4, 0]])
    np.testing.assert_array_equal(poses[np.array([2, 2])].scores, poses.scores[[2, 2]])
    assert [len(frame) for frame in poses.frames()] == [1] * 5
    assert poses[2].metadata == poses.metadata
    with pytest.raises(IndexError):
        poses[5]


def test_concatenation_pads_people_who_are_not_there():
    alone, couple = clip(num_frames=2), beside(clip(), clip(at=(90.0, 30.0)))
    joined = concatenate([alone, couple])
    assert joined.points.shape == (3, 2, NUM_POINTS, 2)
    np.testing.assert_array_equal(joined.is_present, [[True, False], [True, False], [True, True]])
    np.testing.assert_array_equal(joined[:2].points[:, :1], alone.points)
    np.testing.assert_array_equal(joined[2].points, couple.points)
    with pytest.raises(PoseError, match="no poses"):
        concatenate([])


def test_wrong_shapes_and_sizes_are_pose_errors():
    points, scores = np.zeros((2, 1, NUM_POINTS, 2)), np.zeros((2, 1, NUM_POINTS))
    for arguments in (
        (points[..., :17, :], scores, 8, 8),
        (points[0], scores[0], 8, 8),
        (points, scores[:1], 8, 8),
        (points, scores, 0, 8),
        (points, scores, 8, 8, 0.0),
        (points, scores, 8, 8, float("nan")),
        (points, scores, 8, 8, 25.0, np.ones((2, 2), bool)),
    ):
        with pytest.raises(PoseError):
            PoseSequence(*arguments)
