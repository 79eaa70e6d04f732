"""The pages of a comparison and of a training in a real browser: accessibility at two widths."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic.compare.inputs import prepare_clips
from mimic.compare.page import write_page
from mimic.compare.settings import CompareConfig
from mimic.config.loading import build
from mimic.training.report import write_report
from mimic.video import VideoWriter
from pose.blazepose import BlazePose

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

VARIANTS, SEEDS = ("ours", "theirs_under_a_name_that_is_rather_long"), (0, 1)
SHADES = np.arange(0, 255, 80, np.uint8)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    assert program is not None, "no Chromium here: apt-get install chromium"
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])


def write_video(path: Path, *, width: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, height=32, width=width, fps=8) as writer:
        for shade in SHADES:
            writer.write(np.full((32, width, 3), shade, np.uint8))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two variants, clips and seeds; a metric that one variant lacks."""
    folder = tmp_path_factory.mktemp("comparison")
    content = {
        "title": "Two of them",
        "clips": {"num_clips": 2, "num_frames": len(SHADES)},
        "seeds": list(SEEDS),
        "variants": [{"name": name, "model": "m"} for name in VARIANTS],
    }
    config = build(CompareConfig, content)
    clips = prepare_clips(config.clips, folder / "clips", size=(32, 32), estimator=BlazePose)
    rows = []
    for number, name in enumerate(VARIANTS):
        for clip in clips:
            for seed in SEEDS:
                video = f"cells/{number}/{clip.name}/{seed}.mp4"
                write_video(folder / video)
                metrics = {"psnr": 20.0 + seed + number, **({"lpips": 0.2} if number else {})}
                model = {"name": "m", "pipeline": "P", "weights_sha256": {"f": "0" * 64}, "device": "cpu"}
                rows.append(
                    {
                        "variant": name,
                        "clip": clip.name,
                        "seed": seed,
                        "metrics": metrics,
                        "seconds": 1.0,
                        "num_frames": len(SHADES),
                        "peak_memory_mb": 1.0,
                        "peak_gpu_memory_mb": None,
                        "settings": {"fusion": "none" if number else "average"},
                        "model": model,
                        "networks": {},
                        "versions": {},
                        "video": video,
                    }
                )
    return write_page(folder / "report.html", config, clips, rows, {})


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a training of 20 steps, validated at three."""
    folder = tmp_path_factory.mktemp("training")
    lines = []
    for step in range(21):
        line: dict[str, Any] = {"step": step, "loss": 1 / (step + 1), "levels": {"loss_sigma_0.5": 0.1}}
        if step % 10 == 0:
            line["validation"] = {"psnr": 20.0 + step, "ssim": 0.5, "loss_sigma_0.5": 0.1}
            write_video(folder / "validation" / f"step-{step:06d}.mp4", width=134)
        lines.append(json.dumps(line) + "\n")
    (folder / "log.jsonl").write_text("".join(lines))
    page = write_report(folder, best_by="psnr", best_step=20, videos="validation")
    assert page is not None
    return page


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
@pytest.mark.parametrize("name", ["comparison", "training"])
def test_nothing_serious_is_found_by_axe(
    browser: Any, request: pytest.FixtureRequest, name: str, width: int, scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.goto(request.getfixturevalue(name).as_uri())
    if name == "comparison":
        page.wait_for_selector("body[data-ready=true]", timeout=60_000)
    for folded in page.locator("summary:visible").all():
        folded.click()
    found = Axe().run(page).response["violations"]
    serious = [
        (each["id"], [node["html"][:200] for node in each["nodes"]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    buttons = page.eval_on_selector_all(
        "button", "all => all.map(each => each.getAttribute('aria-label') || each.innerText)"
    )
    assert len(buttons) == len(set(buttons)), "buttons have names of their own"
    assert len(buttons) == (2 if name == "comparison" else 0)
    context.close()
