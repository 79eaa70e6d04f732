"""What happens when something on the studio's page is clicked.

Handlers turn what the page gives into calls of `mimic.ui.studio`, and errors into sentences. Files come as
paths of uploads, which Gradio has checked.
"""

from __future__ import annotations

import asyncio
import functools
import html
import inspect
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
import numpy as np
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from mimic.ui.errors import CancelledError, StudioError
from mimic.ui.jobs import Job
from mimic.ui.results import Result
from mimic.ui.settings import FIELDS, settings_of
from mimic.ui.studio import Fit, Picture, Studio

Answer = TypeVar("Answer")

IDLE = "Nothing is running."
STOPPED = "Stopped; nothing was kept."
BUSY = "A result is being made for another page, or for this one before its reload, and goes to the history."
NOW_THERE = "Nothing is running; the result that was being made is in the history, unless it failed."
OUTDATED = "The inputs have changed: press *Fit the motion* to see the new fit before you generate."
LOOK_EVERY_S = 0.5


def _told(error: Exception) -> gr.Error:
    """An error as the sentence that appears on the page."""
    if isinstance(error, CancelledError):
        return gr.Error(STOPPED, duration=5, print_exception=False)
    text = str(error).strip() or type(error).__name__
    folder_of_an_upload = re.escape(str(Path(get_upload_folder()))) + r"[/\\]\w+[/\\]"
    text = re.sub(folder_of_an_upload, "", text)
    return gr.Error(html.escape(text), duration=None, print_exception=False)


TOLD = (CancelledError, ValueError, OSError, ArithmeticError, MemoryError, RuntimeError)


def told(work: Callable[..., Answer]) -> Callable[..., Answer]:
    """A handler whose errors appear on the page as one sentence."""
    if inspect.isgeneratorfunction(work):

        @functools.wraps(work)
        def generator(*arguments: Any, **named: Any) -> Any:
            try:
                yield from work(*arguments, **named)
            except TOLD as error:
                raise _told(error) from error

        return generator

    @functools.wraps(work)
    def wrapped(*arguments: Any, **named: Any) -> Answer:
        try:
            return work(*arguments, **named)
        except TOLD as error:
            raise _told(error) from error

    return wrapped


def named_inputs(handler: Callable[..., Answer], *first: str) -> Callable[..., Answer]:
    """The handler with a name for each of the page's inputs, by which programs give them.

    Args:
        first: names of the inputs before `picture`.
    """

    @functools.wraps(handler)
    def named(*arguments: Any) -> Any:
        return handler(*arguments)

    @functools.wraps(handler)
    def named_generator(*arguments: Any) -> Any:
        yield from handler(*arguments)  # type: ignore[misc]

    chosen = named_generator if inspect.isgeneratorfunction(inspect.unwrap(handler)) else named
    names = [*first, "picture", "clip", "start", "end", "person", *(field.name for field in FIELDS)]
    of_gradio = [
        parameter
        for parameter in inspect.signature(handler).parameters.values()
        if parameter.name == "request" or isinstance(parameter.default, gr.Progress)
    ]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    inputs = [inspect.Parameter(name, kind) for name in names]
    chosen.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [*(each.replace(kind=kind) for each in of_gradio if each.name == "request"), *inputs]
    )
    return chosen


class Handlers:
    """The handlers of one studio."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._jobs: dict[str, Job[Result]] = {}

    @told
    def crowd(self, clip: str | None, start: float) -> Picture | None:
        """The first frame of the clip, to click on."""
        return None if clip is None else self._studio.first_frame(Path(clip), seconds=start or 0)

    @told
    def chosen_person(self, clip: str | None, start: float, click: gr.SelectData) -> str:
        """The person that was clicked on, counted from the left."""
        if clip is None:
            raise StudioError("choose a driving clip first")
        frame, poses = self._studio.people(Path(clip), seconds=start or 0)
        if poses.num_people == 0:
            raise StudioError("nobody is found in this frame; choose a later start")
        at = np.array(click.index, float) / (frame.shape[1], frame.shape[0])
        seen = np.where(poses.scores[0] > 0.3, np.linalg.norm(poses.points[0] - at, axis=-1), np.inf)
        left_to_right = np.argsort(
            [_middle(poses.points[0, i], poses.scores[0, i]) for i in range(len(seen))]
        )
        nearest = int(np.argmin(seen.min(axis=1)))
        return str(int(np.flatnonzero(left_to_right == nearest)[0]))

    @told
    def fit(
        self,
        picture: str | None,
        clip: str | None,
        *values: Any,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio finds it by its default
    ) -> tuple[Any, ...]:
        """Fit a clip's motion to a person: state, overlay, slider of frames, report, numbers."""
        settings = settings_of(*values)
        made = self._studio.fit(
            _path(picture, "picture"), _path(clip, "clip"), settings,
            lambda done, total: progress((done, total), desc="poses", unit="frames"),
        )  # fmt: skip
        return self._shown(made, 0)

    @told
    def refit(
        self, fitted: Fit | None, frame: float | None, picture: str | None, clip: str | None, *values: Any
    ) -> tuple[Any, ...]:
        """Fit again after a correction, and stay at the frame that is shown; nothing before the first fit."""
        if fitted is None:
            return (gr.skip(),) * 5
        settings = settings_of(*values)
        made = self._studio.fit(
            _path(picture, "picture"), _path(clip, "clip"), settings, lambda done, total: None
        )
        return self._shown(made, int(frame or 0))

    def outdated(self, fitted: Fit | None) -> Any:
        """Words in place of the fit report once inputs have changed; nothing before the first fit."""
        return gr.skip() if fitted is None else OUTDATED

    @told
    def show_frame(self, fitted: Fit | None, frame: float) -> Picture | None:
        """The overlay of a frame."""
        return None if fitted is None else fitted.overlay(int(frame))

    @told
    def expected(self, picture: str | None, clip: str | None, *values: Any) -> str:
        """Expected time and memory in words."""
        estimate = self._studio.estimate(_path(picture, "picture"), _path(clip, "clip"), settings_of(*values))
        return "  \n".join(line.partition(": ")[2] for line in list(estimate.lines())[1:])

    @told
    def expected_of_preset(self, fitted: Fit | None, *inputs: Any) -> Any:
        """Expected time and memory of a newly chosen preset; nothing before the first fit."""
        return gr.skip() if fitted is None else self.expected(*inputs)

    @told
    def generate(
        self, request: gr.Request, picture: str | None, clip: str | None, *values: Any
    ) -> Iterator[tuple[Any, ...]]:
        """Generate the video: side by side, words, files, history, then preview and state while it runs."""
        inputs = _path(picture, "picture"), _path(clip, "clip"), settings_of(*values)
        job = Job(lambda progress, preview: self._studio.generate(*inputs, progress, preview))
        self._jobs[request.session_hash or ""] = job
        for words, preview in job.changes():
            shown = gr.skip() if preview is None else gr.Video(value=_kept(preview), visible=True)
            yield (*(gr.skip(),) * 4, shown, words)
        result = job.result()
        history = gr.Dropdown(choices=self.names(), value=result.name)
        yield (*_opened(result), history, gr.Video(value=None, visible=False), "Finished.")

    def cancel(self, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """Stop this visitor's work, and work whose page was closed: its state in words, preview."""
        own = self._jobs.get(request.session_hash or "")
        jobs = [job for job in self._jobs.values() if job.is_running and (job is own or job.is_page_gone)]
        for job in jobs:
            job.stop()
        if jobs:
            yield "Stopping after the current window.", gr.skip()
        for job in jobs:
            job.wait()
        yield (
            (STOPPED if jobs else "Nothing of this page is running or waiting."),
            gr.Video(value=None, visible=False),
        )

    def leave(self, request: gr.Request) -> None:
        """Remember that a page was closed or reloaded. Its work goes on; the result is in the history."""
        self._jobs = {key: job for key, job in self._jobs.items() if job.is_running}
        if (job := self._jobs.get(request.session_hash or "")) is not None:
            job.is_page_gone = True

    async def arrive(self, request: gr.Request) -> AsyncIterator[tuple[Any, Any]]:
        """What a page that was opened or reloaded shows: the history, and whether work is under way, until it
        is done."""
        own = request.session_hash or ""
        jobs = [job for key, job in self._jobs.items() if job.is_running and key != own]
        yield gr.Dropdown(choices=self.names()), BUSY if jobs else IDLE
        if not jobs:
            return
        while any(job.is_running for job in jobs):
            await asyncio.sleep(LOOK_EVERY_S)
        words = STOPPED if all(job.is_stopped for job in jobs) else NOW_THERE
        yield gr.Dropdown(choices=self.names()), gr.skip() if own in self._jobs else words

    def stop_all(self, seconds: float) -> None:
        """Stop all work, and wait for its end for some seconds, so that nothing unfinished is left."""
        jobs = [job for job in self._jobs.values() if job.is_running]
        for job in jobs:
            job.stop()
        end = time.monotonic() + seconds
        for job in jobs:
            job.wait(max(0.0, end - time.monotonic()))

    @told
    def open(self, name: str | None) -> tuple[Any, ...]:
        """A result of the history."""
        found = [result for result in self._studio.history() if result.name == name]
        if not found:
            raise StudioError("this result is no longer there")
        return _opened(found[0])

    def names(self) -> list[str]:
        """Names of finished results, the newest first."""
        return [result.name for result in self._studio.history()]

    def _shown(self, made: Fit, frame: int) -> tuple[Any, ...]:
        """State, overlay of a frame (the last one if there are fewer), slider of frames, report, numbers."""
        most = max(made.num_frames - 1, 1)
        at = min(frame, most)
        report = "  \n".join(filter(None, [made.report(), self._studio.model.note]))
        facts = {"fit": made.facts.get("fit"), "presence": made.facts.get("presence")}
        return made, made.overlay(at), gr.Slider(maximum=most, value=at), report, facts


def _opened(result: Result) -> tuple[Any, ...]:
    return str(result.side_by_side), result.words(), [str(path) for path in result.files]


def _kept(preview: bytes) -> str:
    """Write a preview where Gradio serves it from, and deletes it later."""
    return save_bytes_to_cache(preview, "preview.mp4", cache_dir=get_upload_folder())


def _path(value: str | None, what: str) -> Path:
    if not value:
        raise StudioError(f"choose a {what} first")
    return Path(value)


def _middle(points: Any, scores: Any) -> float:
    seen = scores > 0.3
    return float(points[seen, 0].mean()) if seen.any() else 2.0
