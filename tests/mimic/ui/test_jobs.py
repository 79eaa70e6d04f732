"""Work that the page watches and can stop."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from mimic.ui.jobs import Job
from mimic.ui.studio import CancelledError


def test_the_page_learns_what_is_done_and_sees_each_preview() -> None:
    go_on = threading.Event()

    def work(progress: Any, preview: Any) -> str:
        progress("denoising", 3, 8)
        preview(b"clip")
        assert go_on.wait(30)
        return "made"

    job = Job(work)
    words, preview = next(job.changes())
    assert words.startswith("denoising: 3 of 8 windows")
    assert preview == b"clip"
    go_on.set()
    assert job.result() == "made"
    assert not job.is_running


def test_a_stopped_job_ends_at_its_next_sign_of_progress() -> None:
    def work(progress: Any, preview: Any) -> None:
        while True:
            progress("poses", 1, None)
            time.sleep(0.01)

    job = Job(work)
    job.stop()
    assert job.wait(30)
    with pytest.raises(CancelledError):
        job.result()


def test_an_error_of_the_work_is_the_callers() -> None:
    def work(progress: Any, preview: Any) -> None:
        raise ValueError("no person")

    job = Job(work)
    assert list(job.changes()) == []
    with pytest.raises(ValueError, match="no person"):
        job.result()
