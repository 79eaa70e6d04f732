"""The ablation at a size of seconds: arms differ in their idea alone, the page follows from the files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.ablation import dancers, evaluate, fusion, page, statistics, train
from benchmarks.ablation.__main__ import main
from benchmarks.ablation.failing import FAILURES, fail
from benchmarks.ablation.settings import AblationSettings
from mimic.training.state import load_state
from pose import skeletons as layout
from tests.tiny import random_pipeline


def tiny_settings(folder: Path) -> AblationSettings:
    return AblationSettings(
        folder=folder / "runs", results=folder / "results", page=folder / "page.md", seeds=(0,),
        size=32, canvas_short_side=64, num_dancers=5, num_pictures=3, steps=2, batch_size=2, frames=2,
        width=16, num_clips=2, clip_frames=2, fusion_clips=1, fusion_frames=9, tile_size=4, tile_overlap=1,
        precision="fp32", resamples=50,
    )  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> AblationSettings:
    return tiny_settings(tmp_path)


def exact_poses(settings: AblationSettings):
    return evaluate.make_case(0, settings.model_copy(update={"clip_frames": 12})).poses["clean"]


def test_what_fails_is_unsure_and_the_rest_stays(settings):
    poses = exact_poses(settings)
    wrong, kinds, limits = fail(poses, np.random.default_rng(0), share=1.0)
    moved = np.linalg.norm(wrong.points - poses.points, axis=-1)[:, 0] > 0
    assert set(kinds) == set(range(len(FAILURES)))
    assert moved.any(axis=1).all()
    assert (wrong.scores[:, 0][moved] <= 0.5).all()
    assert np.all((wrong.scores[:, 0] <= limits[:, None]) | ~moved)
    assert np.array_equal(wrong.scores[:, 0][~moved], poses.scores[:, 0][~moved])
    unchanged, kinds, _ = fail(poses, np.random.default_rng(0), share=0.0)
    assert np.allclose(unchanged.points, poses.points)
    assert (kinds == -1).all()


def test_only_sure_hands_get_a_rectangle_and_it_holds_their_points(settings):
    poses = exact_poses(settings)
    poses.scores[:, 0, layout.LEFT_HAND] = 0.9
    poses.scores[:, 0, layout.RIGHT_HAND] = 0.9
    poses.scores[:, 0, layout.RIGHT_HAND.start] = 0.79  # one unsure point is enough
    masks = dancers.hand_rectangles(poses, 32, threshold=0.8)
    for mask, points in zip(masks, poses.points[:, 0, layout.LEFT_HAND] * 32):
        inside = ((points >= 0) & (points < 32)).all(axis=1)
        columns, rows = points[inside].astype(int).T
        assert mask[rows, columns].all()
        breadth = np.ptp(points, axis=0) + 4
        assert mask.sum() <= breadth.prod()


def test_arms_meet_the_same_windows_and_only_the_drawing_differs(settings):
    dancers.prepare(settings, progress=False)
    windows = []
    for mode in ("binary", "confidence"):
        buffer = dancers.load(settings, mode)
        buffer.rng = np.random.default_rng(3)
        windows.append(buffer.draw(4, 3, timing="random"))
    binary, confidence = windows
    assert torch.equal(binary.latents, confidence.latents)
    assert torch.equal(binary.regions, confidence.regions)
    assert not torch.equal(binary.maps, confidence.maps)
    # What is drawn unsurely is darker than in the binary map; nothing is brighter.
    assert (confidence.maps <= binary.maps + 0.02).float().mean() > 0.99


def test_the_hand_loss_is_the_plain_one_where_no_hand_is(settings):
    dancers.prepare(settings, progress=False)
    window = dancers.load(settings, "binary").draw(4, 2, timing="random")
    torch.manual_seed(0)
    model = train.build(settings)
    torch.nn.init.normal_(model.conv_out.weight, std=0.1)

    def value(w_hand: float) -> float:
        generator = torch.Generator().manual_seed(1)
        return train.loss(model, window, w_hand, settings, generator).item()

    assert value(10.0) > value(1.0)
    window.regions.zero_()
    assert value(10.0) == value(1.0)


def test_an_interval_is_of_pairs():
    without = np.array([1.0, 5.0, 100.0, 20.0])
    assert statistics.paired_interval(without, 0.8 * without, resamples=50) == pytest.approx((0.2, 0.2))
    low, high = statistics.paired_interval(without, without[::-1], resamples=200)
    assert low < 0 < high


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[AblationSettings, dict[str, Path]]:
    """The settings of an ablation whose arms are trained, and the arms' last checkpoints."""
    settings = tiny_settings(tmp_path_factory.mktemp("ablation"))
    dancers.prepare(settings, progress=False)
    return settings, {arm: train.train_arm(settings, arm, 0, progress=False) for arm in "abcd"}


@pytest.fixture(scope="module")
def report(whole) -> str:
    """The page of that ablation."""
    settings, _ = whole
    overrides = [f"{key}={value}" for key, value in json.loads(settings.model_dump_json()).items()]
    main([*overrides, "--jobs", "1", "--stage", "evaluate"])
    pipe = random_pipeline()
    pipe.generation_defaults = {
        "height": 32, "width": 32, "canvas_short_side": 64, "num_inference_steps": 1,
        "min_guidance_scale": 1.0, "max_guidance_scale": 1.0, "noise": "shared",
    }  # fmt: skip
    fusion.run(settings, pipe=pipe, progress=False)
    shutil.copytree(settings.results, settings.results / "after_1")
    return page.write(settings).read_text()


def test_arms_get_weights_of_their_own_and_a_finished_one_is_kept(whole):
    settings, last = whole
    weights = {arm: load_state(path)[0]["model"]["conv_in.weight"] for arm, path in last.items()}
    assert not torch.equal(weights["a"], weights["b"])
    before = (last["a"] / "facts.json").stat().st_mtime_ns
    assert train.train_arm(settings, "a", 0, progress=False) == last["a"]
    assert (last["a"] / "facts.json").stat().st_mtime_ns == before


def test_the_page_has_all_sections_and_the_figures_of_the_files(whole, report):
    assert "after 1 steps | after 2 steps" in report
    for heading in ("Exact poses", "Poses that fail", "Hand loss", "Confidence-aware maps", "Seams"):
        assert heading in report
    measured = statistics.by_clip(statistics.read(whole[0]), "b", "clean", "frame_mse")
    assert f"{statistics.psnr_of(measured).mean():.2f} ±" in report


def test_the_truth_measures_as_perfect(settings):
    case = evaluate.make_case(0, settings)
    truth = evaluate.measure(case.clip.frames[1:], case)
    assert max(truth["frame_mse"]) == 0
    assert max(value for value in truth["hand_offset"] if value is not None) == 0
    assert min(truth["frame_ssim"]) == pytest.approx(1)
