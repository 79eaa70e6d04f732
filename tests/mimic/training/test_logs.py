"""What a training shows of its progress: a bar, lines or JSON."""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from mimic.progress import MOST_S_BETWEEN_LINES, log_as_json
from mimic.training import logs
from mimic.training.clips import MAX_WIDTH
from mimic.training.logs import TrainingLog
from mimic.video import VideoWriter
from tests.mimic.training.small import Said

RECORD = {"loss": 0.5, "lr": 1e-4}


@pytest.fixture
def open_log(tmp_path):
    """Opens a log of 100 steps with a line every tenth; further arguments replace others."""
    opened = []

    def open_one(said: Said, **changes: object) -> TrainingLog:
        options = {
            "step": 0, "max_steps": 100, "batch_size": 1, "log_every": 10, "tensorboard": False, "say": said,
        }  # fmt: skip
        opened.append(TrainingLog(tmp_path, **{**options, **changes}))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


@pytest.fixture
def events():
    stream = io.StringIO()
    log_as_json(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    log_as_json(None)


def test_a_notebook_has_a_bar_and_no_lines(open_log, monkeypatch, capsys):
    monkeypatch.setattr("mimic.progress.is_notebook", lambda: True)
    said = Said()
    log = open_log(said)
    for step in range(1, 11):
        log.write(step, RECORD)
    log.close()
    assert said == []
    assert "10/100" in capsys.readouterr().err


def test_quiet_has_neither_bar_nor_lines_nor_events(open_log, events, monkeypatch, capsys):
    monkeypatch.setattr("mimic.progress.is_notebook", lambda: True)
    said = Said()
    log = open_log(said, is_quiet=True)
    for step in range(1, 101):
        log.write(step, RECORD)
    assert (said, events(), capsys.readouterr().err) == ([], [], "")


def test_progress_is_events_in_a_log_for_machines(open_log, events, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    log = open_log(Said(), step=40)
    for step in range(41, 101):
        log.write(step, RECORD)
    first, *_, last = events()
    assert (first["event"], first["stage"], first["unit"]) == ("progress", "training", "step")
    assert (first["done"], first["total"]) == (41, 100)
    assert (last["done"], last["seconds_left"]) == (100, 0)
    assert len(events()) < 60, "fast steps do not flood it"
    assert capsys.readouterr().err == "", "no bar beside them"


def test_slow_steps_are_told_once_a_minute(open_log, monkeypatch):
    now = 0.0
    monkeypatch.setattr(logs.time, "monotonic", lambda: now)
    said = Said()
    log = open_log(said)
    for step in range(1, 10):
        now += MOST_S_BETWEEN_LINES / 2
        log.write(step, RECORD)
    assert [line.split()[1] for line in said] == ["2/100", "4/100", "6/100", "8/100"]


def test_tensorboard_has_validation_clips_that_move(open_log, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with VideoWriter(tmp_path / "clip.mp4", height=64, width=2 * MAX_WIDTH, fps=4) as writer:
        for shade in (0, 100, 200):
            writer.write(np.full((64, 2 * MAX_WIDTH, 3), shade, np.uint8))
    log = open_log(Said(), tensorboard=True)
    log.show(7, tmp_path / "clip.mp4")
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (event,) = events.Images("validation clip")
    assert event.step == 7
    picture = Image.open(io.BytesIO(event.encoded_image_string))
    assert (picture.format, picture.n_frames, picture.info["duration"]) == ("GIF", 3, 250)
    assert picture.size == (event.width, event.height) == (MAX_WIDTH, 32)


def test_a_program_without_a_console_trains(open_log, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    said = Said()
    log = open_log(said, max_steps=2)
    log.write(1, RECORD)
    log.write(2, RECORD)
    assert len(said) == 1
