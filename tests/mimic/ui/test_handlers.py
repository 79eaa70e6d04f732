"""What clicks on the page lead to, without a page and without a model."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest

from mimic.ui import handlers as module
from mimic.ui.handlers import BUSY, IDLE, NOW_THERE, OUTDATED, STOPPED, Handlers
from mimic.ui.jobs import Job
from mimic.ui.settings import FIELDS
from mimic.ui.studio import Fit
from mimic.video import PictureError
from pose import PoseSequence

VALUES = (0, 0, "largest", *(field.component().value for field in FIELDS))


@pytest.fixture
def fit() -> Fit:
    """Five driving frames in which a person goes to the right."""
    points = (
        np.tile(np.linspace(0.2, 0.5, 134)[:, None], (6, 1, 1, 2)) + np.arange(6)[:, None, None, None] / 20
    )
    poses = PoseSequence(points, np.ones(points.shape[:3]), 64, 64)
    return Fit(np.zeros((64, 64, 3), np.uint8), poses, (), {})


@pytest.fixture
def handlers(fit: Fit) -> Handlers:
    studio: Any = SimpleNamespace(
        fit=lambda *_: fit, history=lambda: [], model=SimpleNamespace(note="Note: this is a miniature.")
    )
    return Handlers(studio)


@pytest.mark.parametrize(("frame", "shown"), [(0, 0), (3, 3), (40, 4)])
def test_a_correction_stays_at_the_frame_that_is_shown(
    handlers: Handlers, fit: Fit, frame: int, shown: int
) -> None:
    _, overlay, slider, *_ = handlers.refit(fit, frame, "a.png", "b.mp4", *VALUES)
    assert np.array_equal(overlay, fit.overlay(shown))
    assert slider.value == shown
    assert not np.array_equal(fit.overlay(3), fit.overlay(0))


def test_a_report_says_what_the_model_warns_of(handlers: Handlers, fit: Fit) -> None:
    report = handlers.refit(fit, 0, "a.png", "b.mp4", *VALUES)[3]
    assert "fits the person in all 5 frames" in report
    assert report.endswith("Note: this is a miniature.")


def test_changed_inputs_are_told_once_there_is_a_fit(handlers: Handlers, fit: Fit) -> None:
    assert handlers.outdated(fit) == OUTDATED
    assert handlers.outdated(None) == gr.skip()


def request(page: str) -> Any:
    return SimpleNamespace(session_hash=page)


@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_reloaded_page_learns_that_work_goes_on_and_how_it_has_ended(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch, is_stopped: bool
) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.01)
    assert [words for _, words in _all(handlers.arrive(request("new")))] == [IDLE]
    may_end = threading.Event()

    def work(progress: Any, preview: Any) -> Any:
        assert may_end.wait(30)

    job = handlers._jobs["old"] = Job(work)

    async def watch() -> list[Any]:
        said = []
        async for _, words in handlers.arrive(request("new")):
            said.append(words)
            if is_stopped:
                job.stop()
            may_end.set()
        return said

    assert asyncio.run(watch()) == [BUSY, STOPPED if is_stopped else NOW_THERE]


def test_an_ending_server_stops_its_work(handlers: Handlers) -> None:
    def work(progress: Any, preview: Any) -> Any:
        while True:
            progress("denoising", 1, None)
            threading.Event().wait(0.01)

    job = handlers._jobs["page"] = Job(work)
    handlers.stop_all(30)
    assert not job.is_running


def test_the_first_frame_is_shown_without_looking_for_people(handlers: Handlers) -> None:
    studio: Any = handlers._studio
    studio.first_frame = lambda clip, seconds: (clip, seconds)
    assert repr(handlers.crowd("b.mp4", 2.0)) == repr((Path("b.mp4"), 2.0))


def test_errors_do_not_say_where_uploads_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / ".uploads"))
    upload = tmp_path / ".uploads" / "0a1b2c" / "IMG 1.heic"
    told = module._told(PictureError(f"{upload} is no picture"))
    assert told.message == "IMG 1.heic is no picture"


def _all(steps: Any) -> list[Any]:
    async def collected() -> list[Any]:
        return [step async for step in steps]

    return asyncio.run(collected())
