"""The studio's page: picture and clip, fit, generate, result, in this order (Gradio).

Handlers turn what the page gives into calls of `mimic.ui.studio`, and errors into sentences.
"""

from __future__ import annotations

import functools
import html
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
import numpy as np

from mimic.files import ASSETS
from mimic.ui.settings import FIELDS, settings_of
from mimic.ui.studio import CancelledError, Fit, Picture, Result, Studio, StudioError

Answer = TypeVar("Answer")

MAX_UPLOAD = "200mb"
EXAMPLE_PICTURE, EXAMPLE_CLIP = (ASSETS / "demo" / name for name in ("reference.png", "driving.mp4"))
HEAD = '<meta name="viewport" content="width=device-width, initial-scale=1">'
CSS = """
.gradio-container { max-width: 72rem !important; margin: 0 auto !important; }
#report { border-left: 4px solid var(--color-accent); padding-left: .75rem; }
"""


def build_page(studio: Studio, reports: Path) -> gr.Blocks:
    """The page of a studio.

    Args:
        reports: folder in which reports of comparisons and trainings are looked for.
    """
    handlers = Handlers(studio)
    with gr.Blocks(title="Mimic studio", analytics_enabled=False) as page:
        gr.Markdown("# Mimic studio\nSee the motion fitted to the person, correct it, then generate.")
        with gr.Tab("Studio"):
            _studio_tab(handlers, page)
        with gr.Tab("Reports"):
            _reports_tab(reports, page)
    page.queue(default_concurrency_limit=2, max_size=32)
    return page


def _studio_tab(handlers: Handlers, page: gr.Blocks) -> None:
    fitted = gr.State()
    gr.Markdown("## 1 · Picture and clip")
    with gr.Row():
        picture = gr.Image(
            label="Picture of a person", type="filepath", sources=["upload", "webcam", "clipboard"],
            elem_id="picture", height=320,
            alt_text="picture of a person",
        )  # fmt: skip
        clip = gr.Video(label="Driving clip", sources=["upload", "webcam"], elem_id="clip", height=320)
        crowd = gr.Image(
            label="Click on the person to follow", interactive=False, elem_id="crowd", height=320,
            alt_text="first frame of the clip",
            buttons=[],
        )  # fmt: skip
    with gr.Row():
        start = gr.Number(label="Start, s", value=0, minimum=0, elem_id="start")
        end = gr.Number(label="End, s (0: to the end)", value=0, minimum=0, elem_id="end")
        person = gr.Textbox(
            label="Person", value="largest", elem_id="person",
            info="largest, center, all, or a number from the left",
        )  # fmt: skip
        example = gr.Button("Use the bundled example", elem_id="example")
    gr.Markdown("## 2 · Fit")
    with gr.Row():
        with gr.Column(scale=2):
            overlay = gr.Image(
                label="Skeleton over the picture", interactive=False, elem_id="overlay", buttons=[]
            )
            frame = gr.Slider(0, 1, value=0, step=1, label="Frame", elem_id="frame")
            report = gr.Markdown("Nothing is fitted yet.", elem_id="report")
        with gr.Column(scale=1):
            controls = [field.component() for field in FIELDS if field.group == "fit"]
            with gr.Accordion("Lengths of limbs", open=False):
                controls += [field.component() for field in FIELDS if field.group == "limbs"]
            fit = gr.Button("Fit the motion", variant="primary", elem_id="fit")
            with gr.Accordion("Numbers of the fit", open=False):
                facts = gr.JSON(show_label=False, elem_id="facts")
    gr.Markdown("## 3 · Generate")
    with gr.Row():
        of_generation = [field.component() for field in FIELDS if field.group == "generate"]
    with gr.Row():
        expect = gr.Button("Expected time and memory", elem_id="expect")
        make = gr.Button("Generate", variant="primary", elem_id="generate")
        cancel = gr.Button("Cancel", variant="stop", elem_id="cancel")
    expected = gr.Markdown(elem_id="expected")
    gr.Markdown("## 4 · Result")
    with gr.Row():
        video = gr.Video(label="Side by side", interactive=False, elem_id="result", height=360)
        with gr.Column():
            words = gr.Markdown("No result yet.", elem_id="words")
            files = gr.File(label="Video, poses, YAML and report", interactive=False, elem_id="files")
            history = gr.Dropdown(label="History", choices=handlers.names(), value=None, elem_id="history")

    inputs = [picture, clip, start, end, person, *controls, *of_generation]
    shown = [fitted, overlay, frame, report, facts]
    result = [video, words, files, history]
    example.click(
        lambda: (str(EXAMPLE_PICTURE), str(EXAMPLE_CLIP)), None, [picture, clip], api_visibility="private"
    )
    gr.on([clip.change, start.change], handlers.crowd, [clip, start], crowd, api_visibility="private")
    crowd.select(handlers.chosen_person, [clip, start], person, api_visibility="private")
    fit.click(handlers.fit, inputs, shown, api_name="fit")
    for control in controls:
        moved: Any = control.release if isinstance(control, gr.Slider) else control.change  # type: ignore[attr-defined]
        moved(handlers.refit, [fitted, *inputs], shown, api_visibility="private")
    frame.change(
        handlers.show_frame, [fitted, frame], overlay, api_visibility="private", show_progress="hidden"
    )
    expect.click(handlers.expected, inputs, expected, api_visibility="private", concurrency_id="device")
    running = make.click(
        handlers.generate, inputs, result, api_name="generate", concurrency_id="device", concurrency_limit=1
    )
    cancel.click(handlers.cancel, None, expected, cancels=[running], api_visibility="private")
    history.input(handlers.open, history, [video, words, files], api_visibility="private")
    page.load(lambda: gr.Dropdown(choices=handlers.names()), None, history, api_visibility="private")


def _reports_tab(folder: Path, page: gr.Blocks) -> None:
    def names() -> list[str]:
        found = sorted(folder.rglob("report.html"), key=lambda path: path.stat().st_mtime, reverse=True)
        return [path.relative_to(folder).as_posix() for path in found]

    def shown(name: str | None) -> str:
        if name not in names():
            return "<p>Choose a report of a comparison or a training.</p>"
        text = html.escape((folder / name).read_text(encoding="utf-8"), quote=True)
        return (
            f'<iframe title="{html.escape(name)}" sandbox="allow-scripts" srcdoc="{text}" '
            'style="width:100%;height:80vh;border:0"></iframe>'
        )

    choice = gr.Dropdown(label=f"Reports in {folder}", choices=names(), value=None, elem_id="reports")
    page_of_report = gr.HTML(shown(None))
    choice.input(shown, choice, page_of_report, api_visibility="private")
    page.load(lambda: gr.Dropdown(choices=names()), None, choice, api_visibility="private")


def told(work: Callable[..., Answer]) -> Callable[..., Answer]:
    """A handler whose errors about inputs appear on the page as one sentence."""

    @functools.wraps(work)
    def wrapped(*arguments: Any, **named: Any) -> Answer:
        try:
            return work(*arguments, **named)
        except CancelledError:
            raise gr.Error("Stopped; nothing was kept.", duration=5, print_exception=False) from None
        except (ValueError, OSError, ArithmeticError, MemoryError) as error:
            text = str(error).strip() or type(error).__name__
            raise gr.Error(html.escape(text), duration=None, print_exception=False) from error

    return wrapped


class Handlers:
    """What happens when something is clicked. Files come as paths of uploads, which Gradio has checked."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._stops: dict[str, threading.Event] = {}

    @told
    def crowd(self, clip: str | None, start: float) -> Picture | None:
        """The first frame of the clip, to click on."""
        return None if clip is None else self._studio.people(Path(clip), seconds=start or 0)[0]

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
        return _shown(made, 0)

    @told
    def refit(
        self, fitted: Fit | None, picture: str | None, clip: str | None, *values: Any
    ) -> tuple[Any, ...]:
        """Fit again after a correction; nothing before the first fit."""
        if fitted is None:
            return (gr.skip(),) * 5
        settings = settings_of(*values)
        made = self._studio.fit(
            _path(picture, "picture"), _path(clip, "clip"), settings, lambda done, total: None
        )
        return _shown(made, None)

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
    def generate(
        self, request: gr.Request, picture: str | None, clip: str | None, *values: Any,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:  # fmt: skip
        """Generate the video: side by side, words, files, history."""
        stop = self._stops[request.session_hash or ""] = threading.Event()

        def show(stage: str, done: int, total: int | None) -> None:
            if stop.is_set():
                raise CancelledError
            progress((done, total), desc=stage)

        result = self._studio.generate(
            _path(picture, "picture"), _path(clip, "clip"), settings_of(*values), show
        )
        return (*_opened(result), gr.Dropdown(choices=self.names(), value=result.name))

    def cancel(self, request: gr.Request) -> str:
        """Stop this visitor's work after the current window."""
        if (stop := self._stops.get(request.session_hash or "")) is not None:
            stop.set()
        return "Stopping after the current window."

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


def _shown(made: Fit, frame: int | None) -> tuple[Any, ...]:
    most = max(made.num_frames - 1, 1)
    slider = gr.Slider(maximum=most) if frame is None else gr.Slider(maximum=most, value=frame)
    facts = {"fit": made.facts.get("fit"), "presence": made.facts.get("presence")}
    return made, made.overlay(frame or 0), slider, made.report(), facts


def _opened(result: Result) -> tuple[Any, ...]:
    return str(result.side_by_side), result.words(), [str(path) for path in result.files]


def _path(value: str | None, what: str) -> Path:
    if not value:
        raise StudioError(f"choose a {what} first")
    return Path(value)


def _middle(points: Any, scores: Any) -> float:
    seen = scores > 0.3
    return float(points[seen, 0].mean()) if seen.any() else 2.0
