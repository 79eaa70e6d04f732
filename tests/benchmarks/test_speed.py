"""The released way and ours compute the same, operators are counted, and the page says what was run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.gpu.__main__ import main as measure_gpu
from benchmarks.gpu.weights import SMALL_UNET, make_weights, random_parts
from benchmarks.speed import page
from benchmarks.speed.operators import cost_of_pass, counted
from benchmarks.speed.run import BASELINE, Job, Way, decode, random_inputs, relative_error, sample
from mimic import MimicMotionPipeline

JOB = Job(num_frames=6, tile_size=4, tile_overlap=2, num_steps=2)


@pytest.fixture(scope="module")
def parts():
    return random_parts(torch.device("cpu"), torch.float32, is_small=True)


def test_every_exact_way_gives_the_baseline_s_latents(parts):
    given = random_inputs(parts, JOB, 64, 64)
    expected = sample(parts, JOB, given, BASELINE)
    for way in (Way(), Way(batches_guidance=True), Way(is_optimized=False), Way(pose_budget=0)):
        assert relative_error(sample(parts, JOB, given, way), expected) < 1e-4


def test_ways_of_fewer_evaluations_differ_from_the_baseline(parts):
    given = random_inputs(parts, JOB, 64, 64)
    expected = sample(parts, JOB, given, Way())
    for way in (Way(schedule="aligned"), Way(guidance_interval=(1e-3, 1e-2)), Way(reuse_interval=2)):
        latents = sample(parts, JOB, given, way)
        assert torch.isfinite(latents).all()
        assert relative_error(latents, expected) > 1e-6


def test_all_frames_are_decoded(parts):
    given = random_inputs(parts, JOB, 64, 64)
    for way in (BASELINE, Way()):
        assert decode(parts, JOB, given.noise, way) == 6 * 3 * 64 * 64


def test_operations_are_counted_exactly():
    with torch.device("meta"), torch.no_grad():
        layer, conv = nn.Linear(8, 16), nn.Conv2d(3, 5, 3, padding=1)
        with counted() as costs:
            layer(torch.empty(4, 8))
            conv(torch.empty(2, 3, 6, 7))
            nn.functional.scaled_dot_product_attention(*torch.empty(3, 1, 2, 10, 4).unbind())
            torch.empty(5, 6).t().reshape(6, 5)[:2]  # views cost nothing
    assert costs["linear"].flop == 2 * 4 * 8 * 16
    assert costs["linear"].num_bytes == 4 * (4 * 8 + 8 * 16 + 16 + 4 * 16)
    assert costs["convolution"].flop == 2 * 2 * 5 * 6 * 7 * 3 * 9
    assert costs["attention"].flop == 4 * 2 * 10 * 10 * 4
    assert "elementwise" not in costs


def test_the_faster_layers_do_less_work():
    sizes = {"num_frames": 4, "height": 8, "width": 8}
    plain, fast = (cost_of_pass(SMALL_UNET, **sizes, is_optimized=fast) for fast in (False, True))
    assert fast["linear"].flop < plain["linear"].flop
    assert fast["norm"].num_bytes < plain["norm"].num_bytes
    assert fast["convolution"].flop == plain["convolution"].flop


def test_the_page_is_what_the_results_give():
    results = [page._read(name) for name in ("speed_cpu", "speed_operators", "speed_gpu")]
    assert page.PAGE.read_text(encoding="utf-8") == page.page(*results)
    if results[2] is None:
        assert "No GPU has run this code" in page.page(*results)


def test_weights_that_are_made_load_strictly(tmp_path):
    make_weights(tmp_path, is_small=True)
    pipeline = MimicMotionPipeline.from_original(tmp_path / "base", tmp_path / "MimicMotion.pth")
    assert tuple(pipeline.unet.config.block_out_channels) == (32, 64)


def test_results_are_written_after_each_measurement(tmp_path):
    assert measure_gpu(["--out", str(tmp_path), "--small", "--device", "cpu", "--parts", "a"]) == 0
    parts = json.loads((tmp_path / "speed_gpu.json").read_text())["parts"]
    assert {"versions", "matrix rate, TFLOP/s", "seconds"} <= parts["a"].keys()
    assert measure_gpu(["--out", str(tmp_path), "--small", "--device", "cpu", "--minutes", "0"]) == 1
    parts = json.loads((tmp_path / "speed_gpu.json").read_text())["parts"]
    assert {part["not run"] for part in parts.values()} == {"out of time"}


@pytest.mark.slow
def test_every_part_runs_at_small_size(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(page.__file__).parents[2])
    assert measure_gpu(["--out", str(tmp_path), "--small", "--device", "cpu"]) == 0
    parts = json.loads((tmp_path / "speed_gpu.json").read_text())["parts"]
    assert all(value["holds"] for value in parts["b"].values() if isinstance(value, dict))
    assert set(parts) == set("abcde")
