"""A comparison of toys from YAML to page: cells, going on, processes, and the page in a browser."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic.compare.cells import Cell, cell_is_made_of, finished_row
from mimic.compare.inputs import ClipInputs, CompareError, prepare_clips
from mimic.compare.models import Models
from mimic.compare.run import compare
from mimic.compare.settings import CompareConfig, VariantSettings, load_compare_config
from mimic.config import ConfigError
from mimic.config.loading import build
from mimic.dancers import World, render, sample_character, sample_motion
from mimic.dancers.body_parts import draw_densepose
from mimic.locks import FolderInUseError, locked_folder
from mimic.metrics.tools import NO_TOOLS
from mimic.video import VideoWriter, write_image
from pose.blazepose import BlazePose
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


CELLS = [f"cells/{variant}/dancer_00{i}/seed_0" for variant in ("average", "none") for i in (0, 1)]


def test_a_second_run_keeps_what_is_whole_and_says_why_it_makes_the_rest_again(toy, finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    before = results(folder)
    assert compare(config(toy, folder)).num_kept == 4
    damaged, absent, replaced, edited = (folder / cell for cell in CELLS)
    (damaged / "cell.json").write_text('{"variant": "aver')
    (absent / "dancer_001.mp4").unlink()
    shutil.copy(absent / "dancer_001.json", replaced / "dancer_000.mp4")
    record = json.loads((edited / "cell.json").read_text())
    record["metrics"]["psnr"] = 99.0
    (edited / "cell.json").write_text(json.dumps(record))
    said: list[str] = []
    outcome = compare(config(toy, folder), say=said.append)
    assert (outcome.num_made, outcome.num_kept, outcome.failures) == (4, 0, ())
    assert [row["metrics"] for row in results(folder)] == [row["metrics"] for row in before]
    for told in ("is damaged", "lost its video dancer_001.mp4", "another video dancer_000.mp4"):
        assert sum(told in line for line in said) == (2 if told == "is damaged" else 1), said


def test_what_a_killed_comparison_left_is_removed(toy, finished, tmp_path):
    folder = Path(shutil.copytree(finished, tmp_path / "copy"))
    (folder / CELLS[0] / "cell.json").unlink()
    left = [
        folder / ".results.1.partial.jsonl",
        folder / "clips" / "dancer_000" / ".truth.unfinished.1.partial.mp4",
        folder / CELLS[0] / ".dancer_000.unfinished.1.partial.mp4",
    ]
    for path in left:
        path.write_text("half")
    assert compare(config(toy, folder)).num_made == 1
    assert not [path for path in left if path.exists()]


def test_a_page_of_another_program_and_a_folder_in_use_are_refused(toy, tmp_path):
    (tmp_path / "report.html").write_text("<h1>My thesis</h1>")
    with pytest.raises(CompareError, match=r"report\.html is there and no comparison wrote it"):
        compare(config(toy, tmp_path))
    assert (tmp_path / "report.html").read_text() == "<h1>My thesis</h1>"
    (tmp_path / "report.html").unlink()
    with (
        locked_folder(tmp_path, work="mimic compare", say=print),
        pytest.raises(FolderInUseError, match="is in use by mimic compare"),
    ):
        compare(config(toy, tmp_path))


@pytest.mark.parametrize(
    "content", ["[]", "null", "3", '"text"', "", "{}", "[" * 5000, "\x00", '{"made_of": "old"}']
)
def test_no_content_of_a_record_is_a_traceback(finished, tmp_path, content):
    variant = VariantSettings(name="none", model="m")
    clip = ClipInputs("dancer_000", finished / "clips/dancer_000", 9, 8.0)
    cell = Cell(variant, clip, 0, tmp_path)
    cell.record.write_text(content)
    said: list[str] = []
    assert finished_row(cell, {}, say=said.append) is None
    assert "the cell is made again" in said[0]


def test_rows_of_earlier_settings_are_not_shown_when_the_new_ones_fail(toy, finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    changed = config(toy, folder, common={"control_scale": 0.5})
    outcome = compare(changed)
    assert len(outcome.failures) == 4
    assert outcome.report is None
    assert results(folder) == []


def identity(toy: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    """What the first cell would be made of, without making it."""
    changed = config(toy, folder, **changes)
    models = Models(changed, "cpu")
    clips = prepare_clips(changed.clips, folder / "clips", size=(32, 32), estimator=BlazePose)
    cell = Cell(changed.variants[0], clips[0], 0, folder)
    return cell_is_made_of(cell, changed, models.identity(cell.variant), NO_TOOLS, changed.common)


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [name for name in one if one[name] != other[name]]


def test_a_cell_is_identified_by_the_content_of_all_that_makes_it(toy, finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    first = identity(toy, folder)
    moved = tmp_path / "moved"
    shutil.copytree(toy, moved)
    assert identity(moved, folder) == first  # content counts, not where it lies
    assert differing(first, identity(toy, folder, dtype="float16")) == ["model"]
    assert differing(first, identity(toy, folder, common={"fusion": "none"})) == ["settings"]
    assert differing(first, identity(toy, folder, protocol="B")) == ["protocol"]

    scheduler = moved / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("0.00085", "0.00095"))
    assert differing(first, identity(moved, folder)) == ["model"]
    random_pipeline(seed=1).save_pretrained(moved)
    assert differing(first, identity(moved, folder)) == ["model"]


def test_another_version_of_mimic_makes_cells_again(toy, tmp_path, monkeypatch):
    first = identity(toy, tmp_path)
    monkeypatch.setattr("mimic.compare.cells.versions", lambda: {"mimic": "99"})
    assert differing(first, identity(toy, tmp_path)) == ["version of mimic"]
    monkeypatch.undo()
    monkeypatch.setattr("mimic.compare.cells.FORMAT", 99)
    assert differing(first, identity(toy, tmp_path)) == ["format"]


def test_a_clip_or_reference_replaced_under_its_name_is_noticed(toy, tmp_path):
    data, folder = tmp_path / "data", tmp_path / "out"
    frames = np.random.default_rng(0).integers(0, 255, (4, 192, 144, 3)).astype(np.uint8)
    clips = {"source": "folder", "path": str(data), "num_frames": 2}
    write_clip(data / "a.mp4", frames)
    first = identity(toy, folder, clips=clips)
    assert identity(toy, folder, clips=clips) == first
    write_clip(data / "a.mp4", frames[::-1])
    second = identity(toy, folder, clips=clips)
    assert differing(first, second) == ["clip"]
    write_image(folder / "clips/a/reference.png", frames[3, :32, :32])  # is made again
    (folder / "clips/a/truth/frame_00001.png").unlink()
    assert identity(toy, folder, clips=clips) == second
    (folder / "clips/a/notes.txt").write_text("mine")
    write_clip(data / "a.mp4", frames)
    with pytest.raises(CompareError, match=r"notes\.txt, which no comparison wrote"):
        identity(toy, folder, clips=clips)


def test_networks_of_metrics_are_part_of_a_cell(finished, toy, tmp_path):
    cell = Cell(
        VariantSettings(name="v", model="m"),
        ClipInputs("d", finished / "clips/dancer_000", 9, 8.0),
        0,
        tmp_path,
    )
    found = [
        cell_is_made_of(cell, config(toy, tmp_path), {}, tools, {})
        for tools in (NO_TOOLS, replace(NO_TOOLS, estimator=BlazePose()))
    ]
    assert differing(*found) == ["metrics"]


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
    words = re.sub(r"<[^>]*>", "\n", re.sub(r"<(script|style).*?</\1>", "", text, flags=re.DOTALL))
    assert not re.search(r"\b(None|nan)\b", words), "what was not measured is said in words"
    assert words.count("Not measured here: ") == 1, "and in one line"


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
        ({"variants": [{"name": "a", "model": "m"}] * 2}, "called a; names must be unique"),
        ({"variants": [{"name": "con", "model": "m"}]}, "Windows keeps that name for a device"),
        ({"variants": [{"name": "a.", "model": "m"}]}, "ends with a full stop"),
        ({"variants": [{"name": n, "model": "m"} for n in ("Ours", "ours")]}, "'Ours' and 'ours' are one"),
        ({"variants": [{"name": "a/b", "model": "m"}]}, "part of file names"),
        ({"variants": [{"name": "a", "model": "m", "settings": {"fusoin": "none"}}]}, "did you mean fusion"),
        ({"variants": [{"name": "a", "model": "m", "settings": {"seed": 1}}]}, "same for all"),
        ({"seeds": [1, 1]}, "different"),
        ({"seeds": [2**70]}, r"seeds\[0\] is 1180591620717411303424; expected less than"),
        ({"clips": {"source": "folder"}}, "needs path"),
    ],
)
def test_invalid_settings_are_refused(change, message, tmp_path):
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


@pytest.mark.slow
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
    assert done.stdout.count('data-frame="0" data-ready="true"') == 1  # the clip that is shown
    assert "1 / 9" in done.stdout
    assert "CONSOLE" not in done.stderr
