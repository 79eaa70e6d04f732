"""The studio's page: picture and clip, fit, generate, result, in this order; live; reports (Gradio)."""

from __future__ import annotations

import html
import inspect
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData

from mimic.files import ASSETS
from mimic.ui.handlers import IDLE, Handlers, named_inputs
from mimic.ui.reports import Reports
from mimic.ui.settings import FIELDS

EXAMPLE_PICTURE, EXAMPLE_CLIP = (ASSETS / "demo" / name for name in ("reference.png", "driving.mp4"))
SCRIPTS = [Path(__file__).with_name("assets") / name for name in ("names.js", "live.js")]
LIVE = Path(__file__).with_name("assets") / "live.html"
CLEANED = 3600, 24 * 3600
"""Every how many seconds uploads are looked through, and from which age on they are deleted."""
MEDIA_WIDTH = 280
"""Least width of a picture or clip, in pixels: its label and its buttons fit beside each other."""
CSS = """
.gradio-container { width: 100%; max-width: 84rem !important; margin: 0 auto !important; }
.gradio-container > .main { padding-inline: clamp(.75rem, 4vw, 2rem) !important; }
.html-container { padding: 0; }
footer .divider { display: none; }
#clip .video-container > .wrap { flex: 1 1 0; min-height: 0; width: 100%; }
#clip .video-container > .wrap .mirror-wrap, #clip .video-container > .wrap video { height: 100%; width: 100%;
  object-fit: contain; }
#report { border-left: 4px solid var(--color-accent); padding-left: .75rem; }
button[role="tab"].selected { color: var(--primary-700); }
.dark button[role="tab"].selected { color: var(--primary-300); }
#live-panel { overflow-wrap: anywhere; }
.live-row { display: flex; flex-wrap: wrap; gap: 1rem; margin: .75rem 0; align-items: end; }
.live-row label { display: flex; flex-direction: column; gap: .25rem; flex: 1 1 12rem; min-width: 0; }
.live-row input { width: 100%; min-width: 0; }
.live-row input, .live-row select, .live-row button {
  min-height: 2.5rem; padding: .4rem .8rem; border: 1px solid var(--neutral-500); border-radius: 6px;
  background: var(--input-background-fill); color: var(--body-text-color); max-width: 100%; margin: 0; }
.live-row select { appearance: auto; }
.live-row button { min-width: 8rem; cursor: pointer; font-weight: 600; }
.live-row button.live-main { background: var(--button-primary-background-fill); color: white; }
.live-row figure { margin: 0; flex: 1 1 16rem; min-width: 0; max-width: 24rem; }
.live-row video, .live-row canvas { width: 100%; height: auto; aspect-ratio: 1; object-fit: contain;
  background: #111; border-radius: 6px; }
.live-figures { display: flex; flex-wrap: wrap; gap: .5rem 2rem; }
.live-figures dt { color: var(--body-text-color-subdued); }
.live-figures dd { margin: 0; font-size: 1.4rem; font-variant-numeric: tabular-nums; }
#live-panel :focus-visible { outline: 3px solid var(--color-accent); outline-offset: 2px; }
"""


def build_page(handlers: Handlers, reports: Reports) -> gr.Blocks:
    """The page of a studio.

    Args:
        handlers: what is called when something is clicked.
        reports: the reports of comparisons and trainings to choose from.
    """
    with gr.Blocks(title="Mimic studio", analytics_enabled=False, delete_cache=CLEANED) as page:
        gr.Markdown("# Mimic studio\nSee the motion fitted to the person, correct it, then generate.")
        with gr.Tab("Studio"):
            _studio_tab(handlers, page)
        with gr.Tab("Live"):
            clip = html.escape(f"gradio_api/file={EXAMPLE_CLIP.as_posix()}")
            gr.HTML(LIVE.read_text(encoding="utf-8").replace("{clip}", clip))
        with gr.Tab("Reports"):
            _reports_tab(reports, page)
    page.queue(default_concurrency_limit=2, max_size=32)
    return page


def _described(text: str) -> dict[str, Any]:
    """The argument that gives a picture its alternative text; versions of Gradio before 6.27 have none."""
    return {"alt_text": text} if "alt_text" in inspect.signature(gr.Image.__init__).parameters else {}


def _studio_tab(handlers: Handlers, page: gr.Blocks) -> None:
    fitted = gr.State()
    gr.Markdown("## 1 · Picture and clip")
    with gr.Row():
        picture = gr.Image(
            label="Picture of a person", type="filepath", sources=["upload", "webcam", "clipboard"],
            elem_id="picture", height=320, min_width=MEDIA_WIDTH,
            **_described("picture of a person"),
        )  # fmt: skip
        _give_as_uploaded(picture)
        clip = gr.Video(
            label="Driving clip", sources=["upload", "webcam"], elem_id="clip", height=320,
            min_width=MEDIA_WIDTH,
        )  # fmt: skip
        crowd = gr.Image(
            label="Click on the person to follow", interactive=False, elem_id="crowd", height=320,
            min_width=MEDIA_WIDTH,
            **_described("first frame of the clip"),
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
                label="Skeleton over the picture", interactive=False, elem_id="overlay", buttons=[],
                **_described("skeleton over the picture, described by the fit report below"),
            )  # fmt: skip
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
    state = gr.Markdown(IDLE, elem_id="state")
    preview = gr.Video(
        label="What is being denoised", interactive=False, autoplay=True, loop=True, visible=False,
        elem_id="preview", height=320, buttons=[],
    )  # fmt: skip
    gr.Markdown("## 4 · Result")
    with gr.Row():
        video = gr.Video(label="Side by side", interactive=False, elem_id="result", height=360)
        with gr.Column():
            words = gr.Markdown("No result yet.", elem_id="words")
            files = gr.File(label="Video, poses, YAML and report", interactive=False, elem_id="files")
            history = gr.Dropdown(label="History", choices=handlers.names(), value=None, elem_id="history")

    inputs = [picture, clip, start, end, person, *controls, *of_generation]
    shown = [fitted, overlay, frame, report, facts]
    result = [video, words, files, history, preview, state]
    example.click(
        lambda: (str(EXAMPLE_PICTURE), str(EXAMPLE_CLIP)), None, [picture, clip], api_visibility="private"
    )
    gr.on([clip.change, start.change], handlers.crowd, [clip, start], crowd, api_visibility="private")
    crowd.select(handlers.chosen_person, [clip, start], person, api_visibility="private")
    fit.click(named_inputs(handlers.fit), inputs, shown, api_name="fit")
    for control in controls:
        # Keys move a slider without releasing it. Of the changes during a fit, the last one is fitted next.
        control.change(  # type: ignore[attr-defined]
            handlers.refit, [fitted, frame, *inputs], shown, api_visibility="private", show_progress="minimal"
        )
    for given in (picture, clip, start, end, person):
        given.change(
            handlers.outdated, fitted, report, api_visibility="private", show_progress="hidden", queue=False
        )
    frame.change(
        handlers.show_frame, [fitted, frame], overlay, api_visibility="private", show_progress="hidden"
    )
    on_device: dict[str, Any] = {"concurrency_id": "device", "concurrency_limit": 1}
    expect.click(handlers.expected, inputs, expected, api_visibility="private", **on_device)
    of_generation[0].change(  # type: ignore[attr-defined]
        handlers.expected_of_preset, [fitted, *inputs], expected, api_visibility="private", **on_device
    )
    running = make.click(
        named_inputs(handlers.generate), inputs, result, api_name="generate",
        show_progress="minimal", show_progress_on=state, **on_device,
    )  # fmt: skip
    cancel.click(
        handlers.cancel, None, [state, preview], cancels=[running], api_visibility="private",
        show_progress="hidden", concurrency_limit=None,
    )  # fmt: skip
    page.unload(handlers.leave)
    history.input(handlers.open, history, [video, words, files], api_visibility="private")
    page.load(
        handlers.arrive, None, [history, state], api_visibility="private", show_progress="hidden",
        concurrency_limit=None,
    )  # fmt: skip


def _give_as_uploaded(image: gr.Image) -> None:
    """Have handlers get an image's file as it was uploaded, for our own reader. Gradio's conversion drops
    transparency and colour profiles, and knows no HEIC."""
    converted = image.preprocess

    def path_of(payload: ImageData | None) -> Any:
        is_upload = payload is not None and payload.path and not (payload.url or "").startswith("data:")
        return payload.path if payload is not None and is_upload else converted(payload)

    image.preprocess = path_of  # type: ignore[method-assign]


def _reports_tab(reports: Reports, page: gr.Blocks) -> None:
    def shown(name: str | None) -> str:
        if name is None or reports.file(name) is None:
            return "<p>Choose a report of a comparison or a training.</p>"
        return (
            f'<iframe title="{html.escape(name)}" sandbox="allow-scripts" src="{reports.address(name)}" '
            'style="width:100%;height:80vh;border:0"></iframe>'
        )

    choice = gr.Dropdown(label=f"Reports in {reports.folder}", choices=[], value=None, elem_id="reports")
    page_of_report = gr.HTML(shown(None))
    choice.input(shown, choice, page_of_report, api_visibility="private")
    page.load(lambda: gr.Dropdown(choices=reports.names()), None, choice, api_visibility="private")
