"""A comparison of toys from YAML to page: cells, going on, processes, and the page in a browser."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic.compare.run import CompareError, compare
from mimic.compare.settings import CompareConfig, load_compare_config
from mimic.config import ConfigError
from mimic.config.loading import build
from mimic.dancers import World, render, sample_character, sample_motion
from mimic.dancers.body_parts import draw_densepose
from mimic.video import VideoWriter, write_image
from tests.tiny import random_pipeline

ROOT = Path(__file__).parents[3]
TOY = {
    "height": 32, "width": 32, "tile_size": 6, "tile_overlap": 2, "num_inference_steps": 1,
    "max_guidance_scale": 1.0, "min_guidance_scale": 1.0, "canvas_short_side": 256,
}  # fmt: skip


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    pipeline = random_pipeline()
    pipeline.generation_defaults = dict(TOY)
    pipeline.save_pretrained(folder)
    return folder


def config(toy: Path, output: Path, **changes: Any) -> CompareConfig:
    content = {
        "title": "Toys <side by side>",
        "output_dir": str(output),
        "clips": {"num_clips": 2, "num_frames": 9},
        "seeds": [0],
        "device": "cpu",
        "variants": [
            {"name": "average", "model": str(toy), "settings": {"fusion": "average"}},
            {"name": "none", "model": str(toy), "settings": {"fusion": "none"}},
        ],
    }
    return build(CompareConfig, {**content, **changes})


@pytest.fixture(scope="module")
def finished(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    outcome = compare(config(toy, folder))
    assert (outcome.num_made, outcome.num_kept, outcome.failures) == (4, 0, ())
    return folder


def results(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_every_cell_has_a_row_with_figures_costs_and_origin(finished):
    rows = results(finished)
    assert {(row["variant"], row["clip"]) for row in rows} == {
        (variant, clip) for variant in ("average", "none") for clip in ("dancer_000", "dancer_001")
    }
    for row in rows:
        assert {"l1", "psnr", "ssim", "flicker", "seam_jump"} <= set(row["metrics"])
        assert row["seconds"] > 0
        assert row["model"]["weights_sha256"]
        assert (finished / row["video"]).is_file()


def test_a_second_run_makes_only_what_is_missing_or_was_made_otherwise(toy, finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    before = results(folder)
    (folder / "cells/none/dancer_001/seed_0/cell.json").unlink()
    outcome = compare(config(toy, folder))
    assert (outcome.num_made, outcome.num_kept) == (1, 3)
    assert [row["metrics"] for row in results(folder)] == [row["metrics"] for row in before]
    changed = config(toy, folder, common={"num_inference_steps": 2})
    assert compare(changed).num_made == 4


def test_processes_share_the_cells_and_the_last_one_writes_the_page(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    first = compare(config(toy, tmp_path))
    assert (first.num_made, first.report) == (2, None)
    monkeypatch.setenv("RANK", "0")
    last = compare(config(toy, tmp_path))
    assert last.num_made == 2
    assert last.report is not None
    assert len(results(tmp_path)) == 4


def test_the_page_holds_everything_and_says_what_was_not_measured(finished):
    text = (finished / "report.html").read_text()
    assert not re.search(r'(src|href)="?https?:', text)
    assert "Toys &lt;side by side&gt;" in text
    for part in (
        "driving pose",
        "driving parts",
        "ground truth",
        "not measured",
        "Published, not measured here",
    ):
        assert part in text
    assert "fusion" in text[text.index("What differs by design") :]


def test_what_cannot_be_compared_is_told_before_anything_is_made(toy, tmp_path):
    small = tmp_path / "small"
    pipeline = random_pipeline()
    pipeline.generation_defaults = {**TOY, "height": 48, "width": 48}
    pipeline.save_pretrained(small)
    variants = [{"name": "a", "model": str(toy)}, {"name": "b", "model": str(small)}]
    with pytest.raises(CompareError, match=r"a: 32 x 32, b: 48 x 48"):
        compare(config(toy, tmp_path / "out", variants=variants))
    assert not (tmp_path / "out" / "results.jsonl").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variants": [{"name": "a", "model": "m"}] * 2}, "one name twice: a"),
        ({"variants": [{"name": "a/b", "model": "m"}]}, "part of file names"),
        ({"variants": [{"name": "a", "model": "m", "settings": {"fusoin": "none"}}]}, "did you mean fusion"),
        ({"variants": [{"name": "a", "model": "m", "settings": {"seed": 1}}]}, "same for all"),
        ({"seeds": [1, 1]}, "different"),
        ({"clips": {"source": "folder"}}, "path does not say"),
    ],
)
def test_settings_that_cannot_be_are_told(change, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, tmp_path, **change)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs/compare").glob("*.yaml")), ids=lambda path: path.stem
)
def test_shipped_configs_are_valid(path):
    assert load_compare_config(path).variants
    assert f"mimic compare --config configs/compare/{path.name}" in path.read_text()


BUNDLED = {
    "mimicmotion": "bundled:mini",
    "animate-anyone": "bundled:mini_animate_anyone",
    "magic-animate": "bundled:mini_magic_animate",
}


@pytest.mark.parametrize("name", ["tiktok", "ubc_fashion"])
def test_the_users_clips_in_the_documented_layout_serve_all_three_families(name, tmp_path):
    """The shipped configs at small size: bundled models in place of the released ones, a rendered dancer in
    place of the dataset's people."""
    rng = np.random.default_rng(5)
    dancer = sample_character(rng, World.plain())
    clip = render(dancer, sample_motion(rng, World.plain(), duration_s=2.0), np.arange(12) / 8, 192, 144)
    data = tmp_path / "data"
    if name == "tiktok":  # a folder of frames
        (data / "00335").mkdir(parents=True)
        for number, frame in enumerate(clip.frames):
            write_image(data / "00335" / f"{number + 1:04d}.png", frame)
    else:
        write_clip(data / "00335.mp4", clip.frames)
    write_clip(data / "00335.densepose.mp4", draw_densepose(clip, 192, 144))
    shipped = load_compare_config(ROOT / f"configs/compare/{name}.yaml")
    variants = [
        {"name": variant.name, "model": BUNDLED[variant.name], "settings": {"num_inference_steps": 1}}
        for variant in shipped.variants
    ]
    changes = [
        f"clips.path={data}", "clips.num_frames=4", f"output_dir={tmp_path / 'out'}", "estimator=blazepose",
        f"variants={json.dumps(variants)}", "common={height: 96, width: 96}", "device=cpu",
        "metrics.pose=false",
    ]  # fmt: skip
    outcome = compare(load_compare_config(ROOT / f"configs/compare/{name}.yaml", changes))
    assert outcome.failures == ()
    assert outcome.report is not None
    rows = results(tmp_path / "out")
    assert [row["variant"] for row in rows] == list(BUNDLED)
    assert {row["protocol"] for row in rows} == {shipped.protocol}
    assert len({row["model"]["pipeline"] for row in rows}) == 3
    for row in rows:
        assert row["num_frames"] == 4
        assert row["metrics"]["psnr"] > 10


def write_clip(path: Path, frames: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, height=192, width=144, fps=8, crf=0) as writer:
        for frame in frames:
            writer.write(frame)


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (apt install chromium)")
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (500, 900)])
def test_players_load_in_a_browser_without_errors(finished, tmp_path, width, height):
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
        f"--window-size={width},{height}", "--enable-logging=stderr",
        "--virtual-time-budget=20000", "--dump-dom",
        (finished / "report.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    assert 'data-ready="true"' in done.stdout[done.stdout.index("<body") :][:60]
    assert done.stdout.count('data-frame="0" data-ready="true"') == 2
    assert "1 / 9" in done.stdout
    assert "CONSOLE" not in done.stderr
