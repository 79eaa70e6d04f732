"""The ComfyUI pack: its example workflow gives the frames of `mimic.generate`, with preview and interruption.

With `COMFYUI_DIR` naming a checkout, everything runs in ComfyUI's own executor; else in a minimal host.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mimic.files import ASSETS
from mimic.generation import generate
from mimic.video import VideoWriter, probe, read_frames
from pose import PoseSequence
from tests.integrations.workflow import to_prompt
from tests.tiny import random_pipeline

PACK = Path(__file__).parents[2] / "integrations" / "comfyui"
WORKFLOW = PACK / "example_workflows" / "dance.json"
TOY = {
    "height": 32, "width": 32, "tile_size": 4, "tile_overlap": 1, "num_inference_steps": 2,
    "max_guidance_scale": 1.0, "min_guidance_scale": 1.0, "canvas_short_side": 256,
}  # fmt: skip
LOAD, ESTIMATE, FIT, DRAW, SAMPLE, DECODE = "4", "5", "6", "8", "10", "11"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs as ComfyUI's input folder has them: a picture, a short clip; and a tiny model."""
    folder = tmp_path_factory.mktemp("comfy")
    (folder / "input").mkdir()
    (folder / "output").mkdir()
    shutil.copy(ASSETS / "demo" / "reference.png", folder / "input")
    clip = ASSETS / "demo" / "driving.mp4"
    frames = list(read_frames(clip, max_frames=7))
    height, width = frames[0].shape[:2]
    path = folder / "input" / "driving.mp4"
    with VideoWriter(path, height=height, width=width, fps=probe(clip).fps) as writer:
        for frame in frames:
            writer.write(frame)
    pipeline = random_pipeline()
    pipeline.generation_defaults = dict(TOY)
    pipeline.save_pretrained(folder / "model")
    return folder


@pytest.fixture(scope="module")
def host(folder: Path) -> Any:
    if checkout := os.environ.get("COMFYUI_DIR"):
        from tests.integrations.comfyui import ComfyUI

        return ComfyUI(Path(checkout), PACK, folder / "input", folder / "output")
    from tests.integrations.minimal_host import MinimalHost

    return MinimalHost(PACK, folder / "input", folder / "output")


@pytest.fixture
def prompt(host: Any, folder: Path) -> dict[str, Any]:
    """The example workflow, as the page sends it, with the tiny model."""
    host.on_progress = lambda *_: None
    prompt = to_prompt(json.loads(WORKFLOW.read_text(encoding="utf-8")), host.nodes)
    prompt[LOAD]["inputs"] |= {"model": str(folder / "model"), "device": "cpu"}
    return prompt


@pytest.fixture(scope="module")
def finished(host: Any, folder: Path) -> Any:
    """The example workflow, run once, with what its nodes showed while they ran."""
    prompt = to_prompt(json.loads(WORKFLOW.read_text(encoding="utf-8")), host.nodes)
    prompt[LOAD]["inputs"] |= {"model": str(folder / "model"), "device": "cpu"}
    seen: list[tuple[str, int, int, Any]] = []
    host.on_progress = lambda *event: seen.append(event)
    outcome = host.run(prompt)
    outcome.seen = seen
    return outcome


def test_the_example_workflow_gives_the_frames_of_generate(
    finished: Any, folder: Path, tmp_path: Path
) -> None:
    assert "execution_success" in finished.events, finished.events
    frames, fps = finished.results[DECODE]
    made = generate(
        folder / "input" / "reference.png",
        folder / "input" / "driving.mp4",
        model=str(folder / "model"),
        output=tmp_path / "frames",
        align="limbs",
        is_progress_shown=False,
    )
    assert fps == pytest.approx(made.fps)
    expected = [np.array(_opened(path)) for path in sorted((tmp_path / "frames").glob("*.png"))]
    assert len(frames) == len(expected) == made.num_frames
    assert np.array_equal((frames * 255).round().byte().numpy(), np.stack(expected))
    assert list((folder / "output" / "video").glob("mimic*.mp4"))


def _opened(path: Path) -> Any:
    from PIL import Image

    with Image.open(path) as picture:
        return picture.convert("RGB")


def test_the_fit_reports_in_words_and_draws_maps_and_overlay(finished: Any) -> None:
    _, poses, report, fps = finished.results[FIT]
    assert isinstance(poses, PoseSequence)
    assert "frames" in report or "skeleton" in report
    assert list(finished.shown[FIT]["text"]) == [report]
    maps, overlay = finished.results[DRAW]
    assert maps.shape == overlay.shape == (len(poses), 32, 32, 3)
    assert maps.dtype == torch.float32
    assert 0 <= float(maps.min()) < float(maps.max()) <= 1
    assert fps == poses.fps


def test_sampling_shows_progress_and_a_picture_after_each_step(finished: Any) -> None:
    moved = [(value, total) for node, value, total, _ in finished.seen if node == SAMPLE]
    assert moved[-1] == (moved[-1][1], moved[-1][1])
    pictures = [preview for node, _, _, preview in finished.seen if node == SAMPLE and preview is not None]
    assert pictures, "no preview"
    kind, picture, side = pictures[-1]
    assert kind == "JPEG"
    assert picture.size == (32, 32)
    assert side >= 32
    assert {ESTIMATE, DECODE, DRAW} <= {node for node, *_ in finished.seen}


def test_cancel_ends_sampling_between_windows_and_the_next_run_is_whole(
    host: Any, prompt: dict[str, Any], finished: Any
) -> None:
    calls: list[int] = []

    def cancel(node: str, value: int, total: int, preview: Any) -> None:
        if node == SAMPLE:
            calls.append(value)
            host.interrupt()

    prompt[SAMPLE]["inputs"]["seed"] = 7
    host.on_progress = cancel
    outcome = host.run(prompt)
    assert outcome.events["execution_interrupted"]["node_id"] == SAMPLE
    assert len(calls) == 1
    assert DECODE not in outcome.results
    host.on_progress = lambda *_: None
    again = host.run(prompt)
    assert "execution_success" in again.events
    frames = again.results[DECODE][0]
    assert frames.shape == finished.results[DECODE][0].shape
    assert not torch.equal(frames, finished.results[DECODE][0])


def test_poses_become_keypoints_and_come_back(host: Any, finished: Any) -> None:
    poses = finished.results[ESTIMATE][0]
    to, back = (host.nodes[f"Mimic{name}"] for name in ("PosesToKeypoints", "KeypointsToPoses"))
    keypoints = to.execute(poses).args[0]
    assert {"people", "canvas_height", "canvas_width"} <= set(keypoints[0])
    read = back.execute(json.loads(json.dumps(keypoints))).args[0]
    assert (read.fps, read.height, read.width) == (poses.fps, poses.height, poses.width)
    assert np.array_equal(read.scores[poses.is_seen], poses.scores[poses.is_seen])
    known = (poses.scores > 0) & poses.is_seen[..., None]
    assert np.allclose(read.points[known], poses.points[known], atol=1e-9)


def test_keypoints_of_preprocessors_drive_and_deleted_points_stay_deleted(
    host: Any, finished: Any, prompt: dict[str, Any]
) -> None:
    poses = finished.results[ESTIMATE][0]
    to, back = (host.nodes[f"Mimic{name}"] for name in ("PosesToKeypoints", "KeypointsToPoses"))
    keypoints = to.execute(poses).args[0]
    wrist = 3 * 4
    for frame in keypoints:  # an editor removes a wrist, and knows nothing of our scores
        frame["people"][0]["pose_keypoints_2d"][wrist : wrist + 3] = [0.0, 0.0, 0.0]
    assert not back.execute(keypoints).args[0].scores[:, 0, 4].any()
    plain = [  # as controlnet_aux gives them: no scores of ours, arrays in places, no feet
        {
            "people": [
                {
                    "pose_keypoints_2d": np.array(frame["people"][0]["pose_keypoints_2d"]),
                    "face_keypoints_2d": None,
                    "hand_left_keypoints_2d": None,
                    "hand_right_keypoints_2d": None,
                }
            ],
            "canvas_height": frame["canvas_height"],
            "canvas_width": frame["canvas_width"],
        }
        for frame in keypoints
    ]
    read = back.execute(plain, fps=12.0).args[0]
    assert read.fps == 12.0
    assert len(read) == len(poses)
    loaded, reference = finished.results[LOAD][0], finished.results["1"][0]
    fit = host.nodes["MimicFit"].execute(loaded, reference, read).args
    assert len(fit[1]) == len(poses)
    assert fit[3] == 12.0
    with pytest.raises(ValueError, match="not frames with people"):
        back.execute([{"animals": []}])


def test_of_several_people_the_largest_moves_unless_all_are_asked_for(host: Any, finished: Any) -> None:
    poses = finished.results[ESTIMATE][0]
    to, back = (host.nodes[f"Mimic{name}"] for name in ("PosesToKeypoints", "KeypointsToPoses"))
    keypoints = to.execute(poses).args[0]
    for frame in keypoints:  # a small person at the left
        del frame["people"][0]["scores_134"]
        numbers = np.array(frame["people"][0]["pose_keypoints_2d"])
        numbers[0::3] *= 0.3
        numbers[1::3] *= 0.3
        frame["people"].insert(0, {"pose_keypoints_2d": numbers.tolist()})
    keypoints[0].pop("mimic")
    both = back.execute(keypoints, fps=10.0).args[0]
    assert both.num_people == 2
    fit = host.nodes["MimicFit"]
    loaded, reference = finished.results[LOAD][0], finished.results["1"][0]
    assert fit.execute(loaded, reference, both, align="none").args[1].num_people == 1
    everybody = fit.execute(loaded, reference, both, align="none", settings="person: all").args[1]
    assert everybody.num_people == 2


def test_corrections_move_the_person(host: Any, finished: Any) -> None:
    loaded, reference = finished.results[LOAD][0], finished.results["1"][0]
    poses = finished.results[ESTIMATE][0]
    _, moved, *_ = host.nodes["MimicFit"].execute(loaded, reference, poses, right=0.1).args
    shift = (moved.points - finished.results[FIT][1].points)[:, 0, 1]
    assert shift[:, 0] == pytest.approx(0.1)
    assert shift[:, 1] == pytest.approx(0.0)


def test_a_wrong_link_or_value_is_refused_before_anything_runs(host: Any, prompt: dict[str, Any]) -> None:
    assert host.errors(prompt) == []
    wrong = copy.deepcopy(prompt)
    wrong[SAMPLE]["inputs"]["fit"] = [ESTIMATE, 0]
    assert any("MIMIC_POSES" in text and "MIMIC_FIT" in text for text in host.errors(wrong))
    wrong = copy.deepcopy(prompt)
    wrong[SAMPLE]["inputs"]["steps"] = -1
    assert any("steps" in text for text in host.errors(wrong))


@pytest.mark.parametrize(
    ("node", "text", "message"),
    [
        (FIT, "alginment: limbs", "alginment"),
        (FIT, "just words", "key: value"),
        (SAMPLE, "align: none", "cannot be set when sampling"),
    ],
)
def test_wrong_settings_give_one_sentence(
    host: Any, finished: Any, node: str, text: str, message: str
) -> None:
    loaded, reference = finished.results[LOAD][0], finished.results["1"][0]
    with pytest.raises(ValueError, match=message) as caught:
        if node == FIT:
            poses = finished.results[ESTIMATE][0]
            host.nodes["MimicFit"].execute(loaded, reference, poses, settings=text)
        else:
            host.nodes["MimicSample"].execute(finished.results[FIT][0], 1, settings=text)
    assert len(str(caught.value).splitlines()) <= 2
