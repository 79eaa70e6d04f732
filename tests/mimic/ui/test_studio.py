"""What the studio does without its page: fit, generate into folders of its own, stop, find results again."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mimic.config import ConfigError
from mimic.config.inference import load_inference_config
from mimic.files import ASSETS
from mimic.generation import run_config
from mimic.ui.studio import CancelledError, Studio, StudioError
from mimic.video import VideoError, probe, read_frames
from tests.pose.figures import clip
from tests.tiny import random_pipeline

PICTURE, CLIP = (ASSETS / "demo" / name for name in ("reference.png", "driving.mp4"))
SHORT = {"end": 0.4, "align": "limbs"}
TOY = {
    "height": 32, "width": 32, "tile_size": 6, "tile_overlap": 2, "num_inference_steps": 1,
    "max_guidance_scale": 1.0, "min_guidance_scale": 1.0, "canvas_short_side": 256,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    pipeline = random_pipeline()
    pipeline.generation_defaults = dict(TOY)
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def studio(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """Estimates the poses of a clip each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIMIC_POSE_CACHE", "off")
        yield Studio(tmp_path_factory.mktemp("studio"), model=str(model), device="cpu")


def quiet(*_: Any) -> None:
    """Progress that nobody watches."""


def test_a_fit_shows_every_frame_and_a_correction_moves_it(studio: Studio) -> None:
    fit = studio.fit(PICTURE, CLIP, SHORT, quiet)
    assert fit.num_frames == 4
    assert fit.overlay(0).shape == fit.picture.shape
    assert not np.array_equal(fit.overlay(0), fit.overlay(3))
    assert "4 frames" in fit.report() or fit.sentences
    moved = studio.fit(PICTURE, CLIP, {**SHORT, "adjust": {"offset": [0.1, 0.0]}}, quiet)
    shift = (moved.poses.points - fit.poses.points)[1:, 0, 1]
    assert shift[:, 0] == pytest.approx(0.1)
    assert np.array_equal(moved.poses.points[0], fit.poses.points[0])


def test_what_is_poor_is_said_of_a_fit_and_of_a_result(studio: Studio, tmp_path: Path) -> None:
    driving = clip(num_frames=4)
    is_present = driving.is_present.copy()
    is_present[2:] = False
    gappy = replace(driving, is_present=is_present).save(tmp_path / "gappy.npz")
    settings = {"align": "limbs", "bridge_gaps": 0, "sample_stride": 1}
    assert "2 of 4 frames show nobody" in studio.fit(PICTURE, gappy, settings, quiet).report()
    assert "2 of 4 frames show nobody" in studio.generate(PICTURE, gappy, settings, quiet).words()


def test_what_the_model_warns_of_is_one_plain_line(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = random_pipeline()
    pipeline.generation_defaults = {**TOY, "warning": "a toy;\nits pictures mean nothing"}
    pipeline.save_pretrained(tmp_path / "model")
    studio = Studio(tmp_path / "results", model=str(tmp_path / "model"), device="cpu")
    caplog.set_level(logging.INFO, logger="mimic")
    result = studio.generate(PICTURE, CLIP, SHORT, quiet)
    studio.generate(PICTURE, CLIP, SHORT, quiet)
    assert [each for each in recwarn if "toy" in str(each.message)] == []
    said = [record.getMessage() for record in caplog.records if "toy" in record.getMessage()]
    assert said == ["note: a toy; its pictures mean nothing"], "once, and without a place in the code"
    report = json.loads((result.folder / "result.json").read_text())
    assert report["model"]["name"] == str(tmp_path / "model")
    assert report["model"]["weights_sha256"]


def test_a_result_lies_in_a_folder_of_its_own_with_what_makes_it_again(
    studio: Studio, tmp_path: Path
) -> None:
    stages = set()
    results = [
        studio.generate(PICTURE, CLIP, {**SHORT, "seed": seed}, lambda stage, *_: stages.add(stage))
        for seed in (1, 2)
    ]
    assert {"poses", "denoising", "decoding"} <= stages
    assert results[0].folder != results[1].folder
    assert [path.name for path in results[0].files] == [
        "result.mp4",
        "result.npz",
        "result.yaml",
        "result.json",
    ]
    assert "4 frames of 32x32" in results[0].words()
    recipe = results[1].folder / "result.yaml"
    assert yaml.safe_load(recipe.read_text())["test_case"][0]["seed"] == 2
    run_config(load_inference_config(recipe), output_dir=tmp_path)
    again, first = (np.stack(list(read_frames(path))) for path in (tmp_path / "result.mp4", results[1].video))
    assert np.array_equal(again, first)
    # A new server finds them, the newest first.
    after = Studio(studio.folder, model=studio.model.name, device="cpu")
    assert [result.name for result in after.history()][:2] == [results[1].name, results[0].name]


@pytest.mark.parametrize("at", ["poses", "denoising", "decoding"])
def test_stopped_work_leaves_nothing(studio: Studio, at: str) -> None:
    before = sorted(studio.folder.iterdir())

    def stop(stage: str, *_: Any) -> None:
        if stage == at:
            raise CancelledError

    with pytest.raises(CancelledError):
        studio.generate(PICTURE, CLIP, {**SHORT, "seed": 77}, stop)
    assert sorted(studio.folder.iterdir()) == before


def test_previews_are_given_while_denoising_and_none_is_left(studio: Studio, tmp_path: Path) -> None:
    seen: list[bytes] = []
    result = studio.generate(PICTURE, CLIP, {**SHORT, "num_inference_steps": 3}, quiet, seen.append)
    assert len(seen) > 1
    (tmp_path / "preview.mp4").write_bytes(seen[-1])
    assert probe(tmp_path / "preview.mp4").num_frames == 4
    assert not list(result.folder.glob("*preview*"))
    assert "preview" not in (result.folder / "result.yaml").read_text(encoding="utf-8")


def test_the_estimate_is_of_the_trimmed_clip(studio: Studio) -> None:
    assert studio.estimate(PICTURE, CLIP, SHORT).num_frames == 4
    steps = [studio.estimate(PICTURE, CLIP, {**SHORT, "num_inference_steps": n}).num_steps for n in (2, 5)]
    assert steps == [2, 5]


def test_people_of_a_frame_are_found(studio: Studio) -> None:
    frame, poses = studio.people(CLIP, seconds=1.0)
    assert frame.shape[:2] == (probe(CLIP).height, probe(CLIP).width)
    assert poses.num_people == 1


def test_what_cannot_be_used_is_a_sentence(studio: Studio, tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(VideoError):
        studio.fit(PICTURE, text, {}, quiet)
    with pytest.raises(StudioError, match="choose a picture"):
        studio.fit(tmp_path / "none.png", CLIP, {}, quiet)
    with pytest.raises(ConfigError, match="sead is not a setting"):
        studio.fit(PICTURE, CLIP, {"sead": 1}, quiet)
    assert not any(tmp_path.glob("*/result.*"))


def test_a_long_clip_is_refused_unless_it_is_trimmed(model: Path, tmp_path: Path) -> None:
    shutil.copy(CLIP, tmp_path / "clip.mp4")
    studio = Studio(tmp_path / "results", model=str(model), device="cpu", max_seconds=1.0)
    with pytest.raises(StudioError, match=r"the clip has 8 s; the studio takes 1 s\. Trim it"):
        studio.fit(PICTURE, tmp_path / "clip.mp4", {}, quiet)
    fit = studio.fit(PICTURE, tmp_path / "clip.mp4", SHORT, quiet)
    assert fit.num_frames == 4
    poses = fit.poses[[1] * 40].save(tmp_path / "poses.npz")  # 3.2 s at 12.5 a second
    with pytest.raises(StudioError, match=r"the clip has \d s; the studio takes 1 s"):
        studio.fit(PICTURE, poses, {}, quiet)
    assert studio.fit(PICTURE, poses, SHORT, quiet).num_frames > 0


def test_a_correction_does_not_estimate_the_clip_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIMIC_POSE_CACHE", str(tmp_path / "poses"))
    studio = Studio(tmp_path / "studio", model=str(model), device="cpu")
    frames: list[int] = []
    two = {**SHORT, "end": 0.2}
    first = studio.fit(PICTURE, CLIP, two, lambda done, total: frames.append(done))
    assert frames[-1] == 2
    frames.clear()
    turned = {**two, "adjust": {"rotate": 5.0}}
    moved = studio.fit(PICTURE, CLIP, turned, lambda done, total: frames.append(done))
    assert frames == []
    assert not np.allclose(moved.poses.points[1:], first.poses.points[1:])
    stages = set()
    studio.generate(PICTURE, CLIP, turned, lambda stage, *_: stages.add(stage))
    assert stages == {"denoising", "decoding"}


def test_a_fit_does_not_wait_for_a_video_that_is_being_made(studio: Studio) -> None:
    has_begun, may_go_on = threading.Event(), threading.Event()

    def hold(stage: str, *_: Any) -> None:
        if stage == "denoising":
            has_begun.set()
            assert may_go_on.wait(120)

    with ThreadPoolExecutor(2) as pool:
        video = pool.submit(studio.generate, PICTURE, CLIP, {**SHORT, "seed": 5}, hold)
        try:
            assert has_begun.wait(60)
            assert pool.submit(studio.fit, PICTURE, CLIP, SHORT, quiet).result(timeout=60).num_frames == 4
            assert not video.done()
        finally:
            may_go_on.set()
        assert video.result(timeout=120).video.is_file()


def test_settings_of_a_yaml_count_where_the_page_says_nothing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `mimic animate --model`; and the recipe runs from any folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model, tmp_path / "toy")
    run = {"base_model_path": "toy", "estimator": "blazepose", "test_case": [
        {"ref_image_path": "a.png", "ref_video_path": "b.mp4", "seed": 9, "anchor": "first", "max_frames": 2}
    ]}  # fmt: skip
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(run))
    studio = Studio(tmp_path / "results", model="own.yaml", device="cpu")
    result = studio.generate(PICTURE, CLIP, {"align": "none", "seed": 42}, quiet)
    assert "2 frames" in result.words()
    recipe = load_inference_config(result.folder / "result.yaml")
    assert recipe.base_model_path == str(tmp_path / "toy")
    assert (recipe.device, recipe.estimator) == ("cpu", "blazepose")
    case = recipe.test_case[0]
    assert (case.seed, case.anchor, case.max_frames, case.align) == (42, None, 2, "none")
