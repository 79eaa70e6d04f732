"""`mimic pose`: poses of videos, pictures and files, and what lies in the way."""

import os
from pathlib import Path

import numpy as np
import pytest

from mimic.cli import main
from mimic.dancers.clip import RenderedClip
from mimic.video import probe, read_image, write_image
from pose import PoseSequence, draw_pose
from tests.dancers import write_dancer

OF_ONE_FRAME = ["pose", "dance.mp4", "--estimator", "blazepose", "--stride", "4"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_poses_of_a_video_are_saved_and_drawn_over_it(
    dancer: RenderedClip, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dancer(Path("dance.mp4"), dancer)
    code = main(["pose", "dance.mp4", "--overlay", "seen.mp4", "--estimator", "blazepose", "--stride", "2"])
    assert code == 0
    assert capsys.readouterr().out.splitlines() == ["dance.npz", "seen.mp4"]
    poses = PoseSequence.load("dance.npz")
    assert (len(poses), poses.fps, poses.num_people) == (2, 5, 1)
    body = slice(0, 18)
    distance = np.linalg.norm(poses.points[:, 0, body] - dancer.poses.points[::2, 0, body], axis=2)
    assert np.median(distance) < 0.03
    info = probe("seen.mp4")
    assert (info.num_frames, info.fps, info.height) == (2, 5, 384)


def test_poses_with_the_same_settings_are_kept_and_others_set_aside(
    dancer: RenderedClip, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dancer(Path("dance.mp4"), dancer)
    assert main(OF_ONE_FRAME) == 0
    before = Path("dance.npz").read_bytes()
    capsys.readouterr()
    assert main(OF_ONE_FRAME) == 0
    assert "kept, unchanged" in capsys.readouterr().err
    assert main([*OF_ONE_FRAME, "--smooth", "3"]) == 0
    assert Path("dance.1.npz").read_bytes() == before
    assert "kept as dance.1.npz" in capsys.readouterr().err


def test_poses_are_replaced_when_that_is_asked_for(dancer: RenderedClip) -> None:
    write_dancer(Path("dance.mp4"), dancer)
    assert main([*OF_ONE_FRAME, "--smooth", "3"]) == 0
    smooth = Path("dance.npz").read_bytes()
    assert main([*OF_ONE_FRAME, "--overwrite"]) == 0
    assert Path("dance.npz").read_bytes() != smooth
    assert not Path("dance.1.npz").exists()


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_a_file_that_is_no_result_is_never_replaced(
    options: list[str], dancer: RenderedClip, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dancer(Path("dance.mp4"), dancer)
    np.savez("dance.npz", mine=np.zeros(3))
    mine = Path("dance.npz").read_bytes()
    assert main([*OF_ONE_FRAME, *options]) == 2
    assert "dance.npz is there and is no result of this command" in capsys.readouterr().err
    assert Path("dance.npz").read_bytes() == mine


@pytest.mark.parametrize(
    ("overlay", "message"),
    [("dance.mp4", "the input itself"), ("a.png", "for a video it must end in one of .mp4")],
)
def test_an_overlay_that_cannot_be_written_is_refused(
    overlay: str, message: str, dancer: RenderedClip, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dancer(Path("dance.mp4"), dancer)
    assert main([*OF_ONE_FRAME, "--overlay", overlay, "-o", "other.npz"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("-o", "take:1.npz", "such as take_1.npz"),
        ("-o", "con.npz", "such as _con.npz"),
        ("--overlay", "what?.mp4", "such as what_.mp4"),
        ("-o", "dance.mp4/a.npz", "cannot be written"),
    ],
)
def test_files_that_some_system_cannot_write_are_refused_before_any_work(
    option: str, name: str, message: str, dancer: RenderedClip, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dancer(Path("dance.mp4"), dancer)
    assert main([*OF_ONE_FRAME, option, name]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["dance.mp4"]


def test_poses_are_written_as_other_programs_read_them(dancer: RenderedClip) -> None:
    write_dancer(Path("dance.mp4"), dancer)
    for kind in ("openpose", "coco"):
        assert main([*OF_ONE_FRAME, "--format", kind, "-o", f"{kind}.json"]) == 0
        poses = PoseSequence.load(f"{kind}.json")
        assert (len(poses), poses.fps, poses.height) == (1, 2.5, 384)
        assert main([*OF_ONE_FRAME, "--format", kind, "-o", f"{kind}.json"]) == 0  # known again
        assert not Path(f"{kind}.1.json").exists()


def test_files_of_poses_are_converted(dancer: RenderedClip, capsys: pytest.CaptureFixture[str]) -> None:
    dancer.poses.save("moves.npz")
    assert main(["pose", "moves.npz", "--format", "openpose"]) == 0
    assert main(["pose", "moves.json", "--format", "coco", "-o", "coco.json"]) == 0
    assert main(["pose", "coco.json", "--stride", "2", "--max-frames", "2", "-o", "back.npz"]) == 0
    back = PoseSequence.load("back.npz")
    assert (len(back), back.fps) == (2, dancer.poses.fps / 2)
    is_seen = dancer.poses.scores[:4:2] > 0.3
    is_seen[..., 1] = False  # COCO has no neck
    np.testing.assert_allclose(back.points[is_seen], dancer.poses.points[:4:2][is_seen], atol=1e-9)
    assert main(["pose", "moves.npz", "--overlay", "a.mp4", "-o", "b.npz"]) == 2
    assert "moves.npz holds poses and no picture" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_poses_that_cannot_be_read_are_told_without_waiting(capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe.npz")
    for name, told in (
        ("pipe.npz", "pipe.npz is a named pipe"),
        ("none.npz", "there is no pose file none.npz"),
    ):
        assert main(["pose", name, "-o", "other.npz"]) == 2
        assert told in capsys.readouterr().err


def test_drawn_skeletons_are_read_from_their_colours(
    dancer: RenderedClip, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image("drawn.png", draw_pose(dancer.poses[0], 512, 512, canvas_short_side=512)[0])
    assert main(["pose", "drawn.png"]) == 0
    assert "drawn skeletons" in capsys.readouterr().err
    found, body = PoseSequence.load("drawn.npz"), slice(1, 14)
    is_seen = (dancer.poses.scores[0, 0, body] > 0.3) & (found.scores[0, 0, body] > 0.3)
    assert is_seen.sum() >= 10
    distance = np.linalg.norm(found.points[0, 0, body] - dancer.poses.points[0, 0, body], axis=1)
    assert np.median(distance[is_seen]) < 0.01


def test_poses_of_a_picture(dancer: RenderedClip, capsys: pytest.CaptureFixture[str]) -> None:
    write_image("me.png", dancer.frames[0])
    assert (
        main(["pose", "me.png", "-o", "new/me.npz", "--overlay", "seen.png", "--estimator", "blazepose"]) == 0
    )
    assert len(PoseSequence.load("new/me.npz")) == 1
    drawn = read_image("seen.png")
    assert drawn.shape == dancer.frames[0].shape
    assert not np.array_equal(drawn, dancer.frames[0])
    assert "somebody in 1 of them" in capsys.readouterr().err


def test_what_a_killed_run_left_is_removed(dancer: RenderedClip) -> None:
    write_dancer(Path("dance.mp4"), dancer)
    for name in (".dance.npz.1234.tmp", ".seen.unfinished.1234.partial.mp4", ".dance.npz.tmp"):
        Path(name).write_text("half")
    assert main([*OF_ONE_FRAME, "--overlay", "seen.mp4"]) == 0
    assert [path.name for path in Path().glob(".*")] == [".dance.npz.tmp"]  # not of that form: the user's
