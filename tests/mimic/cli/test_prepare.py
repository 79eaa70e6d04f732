"""`mimic prepare`: what it prints, and how it ends when it cannot work."""

import contextlib
import sys

import numpy as np
import pytest

from mimic.cli import main
from mimic.cli.prepare import Stages
from mimic.progress import progress_line
from mimic.video import VideoWriter


@pytest.fixture
def grey(tmp_path):
    """A folder with one video that shows nobody."""
    folder = tmp_path / "videos"
    folder.mkdir()
    with VideoWriter(folder / "grey.mp4", height=256, width=256, fps=8) as writer:
        for _ in range(16):
            writer.write(np.full((256, 256, 3), 128, np.uint8))
    return folder


def test_a_folder_without_anybody_ends_with_the_reason_and_a_table(grey, tmp_path, capsys):
    out = tmp_path / "data"
    assert main(["prepare", "--videos", str(grey), "--out", str(out), "--workers", "1"]) == 1
    printed = capsys.readouterr()
    assert "nobody 1 1 16 0.001" in " ".join(printed.out.split())
    assert f"no clip can be used; {out / 'rejected.jsonl'} gives the reasons" in printed.err
    assert "poses: 16 of 16 frames" in printed.err
    assert (out / "index.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--videos", "{tmp}/nowhere"], "there is no folder {tmp}/nowhere"),
        (["--videos", "{tmp}/empty"], "{tmp}/empty holds no video; expected files that end in .mp4, .mov"),
        (["--workers", "0"], "--workers is 0; expected 1 or more"),
        (["--person", "everyone"], "person: 'everyone': expected one, largest, center or a number"),
        (["min_frame=3"], "min_frame is not a setting; did you mean min_frames?"),
        (["val_share=1.5"], "val_share is 1.5; expected"),
        (["--estimator", "dwpose", "--weights", "{tmp}/empty"], "{tmp}/empty"),
        (["--out", "{tmp}/videos/grey.mp4"], "cannot be written"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--seed", "-1"], "seed is -1; expected 0 or more"),
        (["max_seconds=1e308"], "max_seconds is 1e+308; expected"),
    ],
)
def test_mistakes_end_in_one_sentence_before_any_work(arguments, told, grey, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    given = ["prepare", "--videos", str(grey), "--out", str(tmp_path / "data")]
    assert main([*given, *(argument.format(tmp=tmp_path) for argument in arguments)]) == 2
    printed = capsys.readouterr()
    assert told.format(tmp=tmp_path) in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert printed.out == ""
    assert not (tmp_path / "data" / ".prepare").exists()


def test_stages_are_bars_on_a_terminal_and_lines_elsewhere(monkeypatch, capsys):
    with contextlib.ExitStack() as open_bars:
        show = Stages(open_bars, is_shown=True)
        for done in (0, 1, 2):
            show("cuts", "video", done, 2)
        assert [told.partition(",")[0] for told in capsys.readouterr().err.splitlines()] == [
            "cuts: 2 of 2 videos"
        ]
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        for stage in ("poses", "clips"):
            show(stage, "frame", 3, 3)
    shown = capsys.readouterr().err
    assert "poses: 100%" in shown
    assert "clips: 100%" in shown


def test_progress_tells_rate_and_time_left():
    assert (
        progress_line("poses", "frame", 50, 200, 10.0)
        == "poses: 50 of 200 frames, 5.0 frames/s, 0:00:30 left"
    )
    assert progress_line("poses", "frame", 200, 200, 40.0) == "poses: 200 of 200 frames, 5.0 frames/s"
    assert progress_line("cuts", "video", 0, 9, 0.0) == "cuts: 0 of 9 videos"
