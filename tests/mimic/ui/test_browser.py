"""The studio in a real browser: upload, fit, correct, generate, download; cancel, two users, a new server;
webcam and live; keyboard and accessibility."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import av
import numpy as np
import pytest

from mimic.files import ASSETS
from mimic.training.report import write_report
from mimic.video import VideoWriter
from tests.tiny import random_pipeline

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[3]
PICTURE, CLIP = (ASSETS / "demo" / name for name in ("reference.png", "driving.mp4"))
MS = 240_000
WEBCAM = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
MAX_UPLOAD_MB = 5
NAMES = ("chromium", "chromium-browser", "google-chrome")
TOY = {
    "height": 32, "width": 32, "tile_size": 6, "tile_overlap": 2, "num_inference_steps": 1,
    "max_guidance_scale": 1.0, "min_guidance_scale": 1.0, "canvas_short_side": 256,
}  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, NAMES)), None)
    assert program is not None, "no Chromium here: apt-get install chromium"
    seen = tmp_path_factory.mktemp("webcam") / "dancer.y4m"
    write_raw(seen, CLIP)
    arguments = ["--no-sandbox", *WEBCAM, f"--use-file-for-fake-video-capture={seen}"]
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=program, args=arguments)


def write_raw(path: Path, clip: Path) -> None:
    """Write a clip as the uncompressed video that Chromium takes in place of a webcam's, again and again."""
    with av.open(clip) as opened, path.open("wb") as raw:
        stream = opened.streams.video[0]
        width, height = stream.width // 2 * 2, stream.height // 2 * 2
        raw.write(f"YUV4MPEG2 W{width} H{height} F{stream.average_rate}:1 Ip A1:1 C420jpeg\n".encode())
        for frame in opened.decode(stream):
            planes = frame.to_ndarray(format="yuv420p")[:, :width]
            raw.write(b"FRAME\n" + planes.tobytes())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    pipeline = random_pipeline()
    pipeline.generation_defaults = dict(TOY)
    pipeline.save_pretrained(folder / "model")
    return folder


class Server:
    """`mimic ui` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._command = [
            sys.executable, "-m", "mimic", "ui", "--port", str(self.port), "--device", "cpu",
            "--model", str(folder / "model"), "--output-dir", str(folder / "results"),
            "--reports", str(folder), "--max-upload", str(MAX_UPLOAD_MB),
        ]  # fmt: skip
        self.start()

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(self._command, env=environment)
        for _ in range(600):
            time.sleep(0.5)
            assert self._process.poll() is None, "the server has ended"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
        pytest.fail("the server does not answer")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    running = Server(folder)
    yield running
    running.kill()


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Callable[..., Any]]:
    contexts = []

    def open_page(**options: Any) -> Any:
        contexts.append(browser.new_context(accept_downloads=True, **options))
        page = contexts[-1].new_page()
        page.goto(f"http://127.0.0.1:{server.port}/", timeout=MS)
        page.wait_for_selector("#fit", timeout=MS)
        return page

    yield open_page
    for context in contexts:
        context.close()


def upload(page: Any, picture: Path = PICTURE, clip: Path = CLIP) -> None:
    page.set_input_files("#picture input[type=file]", str(picture))
    page.wait_for_selector("#picture img", timeout=MS)
    page.set_input_files("#clip input[type=file]", str(clip))


def number(page: Any, field: str, value: float) -> None:
    page.fill(f"#{field} input", str(value))
    page.keyboard.press("Tab")


def fit(page: Any) -> None:
    page.click("#fit")
    page.wait_for_selector("#overlay img", timeout=MS)


def source(page: Any, field: str) -> str:
    return str(page.get_attribute(f"#{field} img", "src"))


def generated(page: Any) -> str:
    page.wait_for_function("document.querySelector('#words').innerText.includes('frames of')", timeout=MS)
    return str(page.inner_text("#words"))


def test_upload_fit_correct_generate_download(visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit(viewport={"width": 1280, "height": 900})
    upload(page)
    page.wait_for_selector("#crowd img", timeout=MS)
    number(page, "end", 0.5)
    fit(page)
    before = source(page, "overlay")
    page.locator("#adjust-rotate input[type=range]").focus()
    for _ in range(2):
        page.keyboard.press("PageUp")
    page.wait_for_function(f"document.querySelector('#overlay img').src !== {before!r}", timeout=MS)
    page.click("#preset input")
    page.get_by_role("option", name="fast").click()
    page.wait_for_function(
        "document.querySelector('#expected').innerText.includes('estimated peak')", timeout=MS
    )
    page.click("#generate")
    assert "5 frames of 32x32" in generated(page)
    page.wait_for_selector("#result video", timeout=MS)
    with page.expect_download(timeout=MS) as download:
        page.locator("#files a[download]").first.click()
    download.value.save_as(tmp_path / "result.mp4")
    assert (tmp_path / "result.mp4").read_bytes()[4:8] == b"ftyp"


def test_two_visitors_get_their_own_results(visit: Callable[..., Any]) -> None:
    pages = [visit(), visit()]
    for page, end in zip(pages, (0.3, 0.6)):
        upload(page)
        number(page, "end", end)
        page.click("#generate")
    assert ["3 frames" in generated(pages[0]), "6 frames" in generated(pages[1])] == [True, True]


def test_work_can_be_stopped_and_done_again(visit: Callable[..., Any], folder: Path) -> None:
    page = visit()
    upload(page)
    number(page, "steps", 400)
    before = len(list((folder / "results").glob("*/result.yaml")))
    page.click("#generate")
    # of what is being denoised, and it is not an empty box
    page.wait_for_function("document.querySelector('#preview video')?.videoWidth > 0", timeout=MS)
    assert "denoising" in page.inner_text("#state")
    page.click("#cancel")
    page.wait_for_function(
        "document.querySelector('#state').innerText.includes('nothing was kept')", timeout=MS
    )
    assert len([path for path in (folder / "results").iterdir() if path.name[0] != "."]) == before
    assert not page.locator("#preview video").is_visible()
    number(page, "steps", 1)
    number(page, "end", 0.4)
    page.click("#generate")
    assert "4 frames" in generated(page)


def test_a_reloaded_page_says_that_its_work_goes_on(visit: Callable[..., Any]) -> None:
    page = visit()
    upload(page)
    number(page, "steps", 400)
    page.click("#generate")
    page.wait_for_function("document.querySelector('#state').innerText.includes('denoising')", timeout=MS)
    page.reload()
    page.wait_for_function(
        "document.querySelector('#state')?.innerText.includes('goes to the history')", timeout=MS
    )
    page.wait_for_timeout(2000)  # until the server knows that the former page is gone
    page.click("#cancel")
    page.wait_for_function(
        "document.querySelector('#state').innerText.includes('nothing was kept')", timeout=MS
    )


def test_a_fit_says_when_it_is_no_longer_that_of_the_inputs(visit: Callable[..., Any]) -> None:
    page = visit()
    upload(page)
    page.wait_for_selector("#crowd img", timeout=MS)
    number(page, "end", 0.5)
    fit(page)
    number(page, "end", 0.3)
    page.wait_for_function("document.querySelector('#report').innerText.includes('have changed')", timeout=MS)
    page.click("#fit")
    page.wait_for_function(
        "!document.querySelector('#report').innerText.includes('have changed')", timeout=MS
    )


def test_a_broken_upload_is_a_sentence(visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG not at all")
    page.set_input_files("#picture input[type=file]", str(broken))
    page.set_input_files("#clip input[type=file]", str(CLIP))
    page.wait_for_selector("#crowd img", timeout=MS)
    page.click("#fit")
    page.wait_for_selector(".toast-body.error, .toast-wrap .error", timeout=MS)
    assert "Traceback" not in page.content()


def test_a_killed_server_comes_back_with_its_history(
    visit: Callable[..., Any], server: Server, folder: Path
) -> None:
    made = sorted(path.parent.name for path in (folder / "results").glob("*/result.yaml"))
    assert made
    server.kill()
    server.start()
    page = visit(viewport={"width": 400, "height": 900})
    page.reload()
    page.wait_for_selector("#fit", timeout=MS)
    page.wait_for_timeout(2000)
    page.click("#history input")
    page.get_by_role("option", name=made[-1]).click()
    generated(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_programs_can_use_it(server: Server) -> None:
    from gradio_client import Client, handle_file

    client = Client(f"http://127.0.0.1:{server.port}/", verbose=False)
    inputs = {"picture": handle_file(str(PICTURE)), "clip": handle_file(str(CLIP)), "end": 0.3}
    overlay, _, report, facts = client.predict(**inputs, adjust_rotate=10, api_name="/fit")
    assert Path(overlay).stat().st_size > 0
    assert report
    assert {"fit", "presence"} <= set(facts)
    video, words, files, *_ = client.predict(**inputs, seed=3, api_name="/generate")
    assert "3 frames of 32x32" in words
    assert Path(video["video"] if isinstance(video, dict) else video).stat().st_size > 0
    assert [Path(path).suffix for path in files] == [".mp4", ".npz", ".yaml", ".json"]


def test_a_large_upload_is_refused(visit: Callable[..., Any], tmp_path: Path) -> None:
    page = visit()
    large = tmp_path / "large.png"
    large.write_bytes(PICTURE.read_bytes() + bytes(MAX_UPLOAD_MB * 2**20))
    page.set_input_files("#picture input[type=file]", str(large))
    page.wait_for_function("/exceed|too large|maximum/i.test(document.body.innerText)", timeout=MS)
    assert page.locator("#picture img").count() == 0


def test_a_picture_is_taken_with_the_webcam(visit: Callable[..., Any]) -> None:
    page = visit(permissions=["camera"])
    page.locator("#picture").get_by_label("Capture from camera").click()
    page.locator("#picture [title='grant webcam access']").click()
    page.wait_for_selector("#picture video", timeout=MS)
    page.wait_for_timeout(2000)
    page.locator("#picture").get_by_label("capture photo").click()
    page.wait_for_selector("#picture img", timeout=MS)


def test_a_click_chooses_the_person_and_a_report_opens(visit: Callable[..., Any], folder: Path) -> None:
    (folder / "training").mkdir()
    shutil.copy(CLIP, folder / "training" / "clip.mp4")
    text = '<h1>Losses</h1><video src="clip.mp4" preload="auto" muted></video>'
    (folder / "training" / "report.html").write_text(text, encoding="utf-8")
    page = visit()
    page.click("#example")
    page.wait_for_selector("#crowd img", timeout=MS)
    page.click("#crowd img")
    page.wait_for_function(
        "document.querySelector('#person input, #person textarea').value === '0'", timeout=MS
    )
    page.get_by_role("tab", name="Reports").click()
    page.click("#reports input")
    page.get_by_role("option", name="training/report.html").click()
    frame = page.frame_locator("iframe[title='training/report.html']")
    frame.get_by_text("Losses").wait_for(timeout=MS)
    video = frame.locator("video").element_handle()
    video.owner_frame().wait_for_function("document.querySelector('video').videoWidth > 0", timeout=MS)


BOX = "each => {const box = each.getBoundingClientRect(); return [box.left, box.top, box.right, box.bottom]}"


def boxes(page: Any, selector: str) -> list[list[float]]:
    """Left, top, right and bottom of the elements that are seen."""
    found = f"[...document.querySelectorAll({selector!r})].filter(each => each.getClientRects().length)"
    return list(page.evaluate(f"{found}.map({BOX})"))


@pytest.mark.parametrize("width", [1280, 400])
def test_every_tab_and_a_report_have_the_whole_width(
    visit: Callable[..., Any], folder: Path, width: int
) -> None:
    run = folder / "mimicmotion_mini_on_my_own_clips"
    run.mkdir(exist_ok=True)
    figures = {"psnr": 20.0, "loss_sigma_0.5": 0.1}
    log = "".join(json.dumps({"step": step, "validation": figures}) + "\n" for step in (0, 1000, 2000))
    (run / "log.jsonl").write_text(log)
    write_report(run, best_by="psnr", best_step=1000, videos="validation")
    page = visit(viewport={"width": width, "height": 900})
    for tab in ("Studio", "Live", "Reports"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(500)
        ((left, _, right, _),) = boxes(page, "main.contain")
        assert right - left > 0.9 * width, tab
    page.click("#reports input")
    page.wait_for_timeout(500)
    page.get_by_role("option", name=f"{run.name}/report.html").click()
    frame = page.frame_locator(f"iframe[title='{run.name}/report.html']")
    frame.get_by_text("step 2000 (last)").wait_for(timeout=MS)
    ((left, _, right, _),) = boxes(page, "iframe")
    assert right - left > 0.9 * width
    inside = frame.locator("html").element_handle().owner_frame()
    assert inside is not None
    for wide in ("document.documentElement", "document.querySelector('.wide')"):
        assert inside.evaluate(f"{wide}.scrollWidth <= {wide}.clientWidth"), wide


@pytest.mark.parametrize("width", [1280, 768, 400])
def test_labels_and_buttons_of_picture_and_clip_are_seen(visit: Callable[..., Any], width: int) -> None:
    page = visit(viewport={"width": width, "height": 900})
    page.click("#example")
    page.wait_for_selector("#crowd img", timeout=MS)
    page.wait_for_selector("#clip video", timeout=MS)
    page.wait_for_timeout(1000)
    for name in ("#picture", "#clip"):
        ((left, top, right, bottom),) = boxes(page, name)
        ((_, _, label_right, _),) = boxes(page, f"{name} [data-testid='block-label']")
        ((buttons_left, *_),) = boxes(page, f"{name} .icon-button-wrapper")
        assert label_right <= buttons_left, name
        for inside in boxes(page, f"{name} [data-testid='source-select'] button"):
            assert left <= inside[0] < inside[2] <= right, name
            assert top <= inside[1] < inside[3] <= bottom, name
    assert page.inner_text("footer").strip() in ("", "Use via API")


@pytest.mark.parametrize("source", ["webcam", "the bundled clip", "an empty room"])
def test_a_character_is_live(visit: Callable[..., Any], tmp_path: Path, source: str) -> None:
    page = visit(permissions=["camera"])
    page.get_by_role("tab", name="Live").click()
    page.select_option("#live-source", "webcam" if source == "webcam" else "clip")
    if source == "an empty room":
        with VideoWriter(tmp_path / "room.mp4", height=96, width=96, fps=10) as writer:
            for _ in range(20):
                writer.write(np.full((96, 96, 3), 90, np.uint8))
        page.set_input_files("#live-clip", str(tmp_path / "room.mp4"))
    page.click("#live-start")
    page.wait_for_function("Number(document.querySelector('#live-shown').innerText) >= 8", timeout=MS)
    said = page.inner_text("#live-status")
    assert ("Nobody is seen" in said) == (source == "an empty room"), said
    assert float(page.inner_text("#live-rate")) > 0
    assert float(page.inner_text("#live-delay")) > 0
    shades = "[...document.querySelector('#live-picture').getContext('2d').getImageData(0, 0, 384, 384).data]"
    assert page.evaluate(f"new Set({shades}).size") > 50
    page.click("#live-stop")
    page.wait_for_function("document.querySelector('#live-status').innerText === 'Stopped.'", timeout=MS)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_nothing_serious_is_found_by_axe(visit: Callable[..., Any], width: int, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = visit(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.click("#example")
    page.wait_for_selector("#crowd img", timeout=MS)
    number(page, "end", 0.3)
    fit(page)
    page.click("#generate")
    assert "3 frames of 32x32" in generated(page)
    page.wait_for_selector("#result video", timeout=MS)
    for tab in ("Studio", "Live", "Reports"):
        page.get_by_role("tab", name=tab).click()
        page.mouse.move(0, 0)
        page.wait_for_timeout(1500)  # colours change slowly
        found = Axe().run(page).response["violations"]
        serious = [
            (each["id"], [node["html"][:200] for node in each["nodes"]])
            for each in found
            if each["impact"] in ("serious", "critical")
        ]
        assert serious == [], tab
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab


FOCUSABLE = """[...document.querySelectorAll(
  'a[href], button, input, select, textarea, summary, [role=slider], [role=tab]')].filter(each =>
  each.checkVisibility({visibilityProperty: true, opacityProperty: true}) && each.getClientRects().length &&
  !each.disabled && !each.closest('[aria-hidden=true]'))"""
# What a pointer can use and is seen; Gradio hides its file inputs behind buttons and measures tabs in a copy.


@pytest.mark.parametrize("tab", ["Studio", "Live", "Reports"])
def test_the_keyboard_reaches_everything(visit: Callable[..., Any], tab: str) -> None:
    page = visit(viewport={"width": 1280, "height": 900})
    if tab == "Studio":
        page.click("#example")
        page.wait_for_selector("#crowd img", timeout=MS)
    page.get_by_role("tab", name=tab).focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(1000)
    total = page.evaluate(f"window.all = {FOCUSABLE}; window.seen = new Set(); window.all.length")
    assert total > 4
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    for _ in range(3 * total):
        page.keyboard.press("Tab")
        page.evaluate("window.seen.add(document.activeElement)")
    missed = page.evaluate("window.all.filter(e => !window.seen.has(e)).map(e => e.outerHTML.slice(0, 200))")
    assert missed == []


@pytest.mark.parametrize("path", ["/etc/passwd", str(ROOT / "pyproject.toml"), str(Path.home())])
def test_files_outside_its_folder_are_refused(server: Server, path: str) -> None:
    with pytest.raises(HTTPError) as refused:
        urlopen(f"http://127.0.0.1:{server.port}/gradio_api/file={path}", timeout=60)
    assert refused.value.code in (403, 404)
