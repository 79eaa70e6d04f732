"""Presets are measured against the exact computation, and the frontier holds what nothing else beats."""

import json
from xml.etree import ElementTree

import pytest

from benchmarks.presets import CONFIG, ROOT, frontier, main, plot
from benchmarks.speed.page import presets_measured
from mimic.compare.settings import load_compare_config
from mimic.families.registry import load_pipeline
from mimic.sampling.presets import PRESETS
from mimic.training.main import settings_of
from tests.tiny import random_pipeline

TOY = {
    "height": 32, "width": 32, "tile_size": 6, "tile_overlap": 2, "num_inference_steps": 2,
    "max_guidance_scale": 2.0, "min_guidance_scale": 2.0, "canvas_short_side": 256,
}  # fmt: skip
ROWS = {
    "exact": {"times_faster": 1.0, "psnr": 20.0, "psnr_to_exact": 100.0},
    "balanced": {"times_faster": 2.0, "psnr": 20.1, "psnr_to_exact": 30.0},
    "fast": {"times_faster": 4.0, "psnr": 19.0, "psnr_to_exact": 25.0},
    "reuse": {"times_faster": 1.5, "psnr": 19.5, "psnr_to_exact": 28.0},
}


def test_the_frontier_holds_what_nothing_beats_in_both():
    assert frontier(ROWS) == ["balanced", "fast"]
    picture = ElementTree.fromstring(plot(ROWS, {"psnr": 0.3}))
    circles = [each for each in picture if each.tag.endswith("circle")]
    assert len(circles) == len(ROWS)
    (line,) = (each for each in picture if each.tag.endswith("polyline"))
    assert len(line.get("points").split()) == 2


def test_the_comparison_has_the_presets_and_each_of_their_parts():
    settings = {variant.name: variant.settings for variant in load_compare_config(CONFIG).variants}
    assert settings["exact"] == {}
    assert {settings[name]["preset"] for name in PRESETS if name != "exact"} == set(PRESETS) - {"exact"}
    alone = [own for own in settings.values() if "preset" not in own]
    for preset in PRESETS.values():
        for name, value in preset.items():
            given = [own[name] for own in alone if name in own]
            assert (list(value) if isinstance(value, tuple) else value) in given


def test_the_model_to_train_has_the_released_noise_and_its_yaml_fits_it(tmp_path):
    main(["--make-start", str(tmp_path / "start")])
    pipe = load_pipeline(tmp_path / "start")
    pipe.scheduler.set_timesteps(25)
    assert pipe.scheduler.sigmas[0] == pytest.approx(700)
    assert pipe.scheduler.sigmas[24] == pytest.approx(0.002)
    plan = pipe.plan(num_frames=9)
    assert (plan.height, plan.width, plan.num_inference_steps) == (96, 96, 25)
    settings = settings_of(ROOT / "configs" / "train" / "mini_many_steps.yaml", [])
    assert (settings.data.height, settings.data.width) == (plan.height, plan.width)


def test_a_comparison_of_a_tiny_model_is_measured_and_drawn(tmp_path, monkeypatch):
    model = random_pipeline()
    model.generation_defaults = dict(TOY)
    model.save_pretrained(tmp_path / "model")
    every = load_compare_config(CONFIG)
    monkeypatch.setattr(
        "benchmarks.presets.load_compare_config",
        lambda path, overrides: load_compare_config(path, overrides).model_copy(
            update={"variants": tuple(v for v in every.variants if v.name in ("exact", "fast"))}
        ),
    )
    main(
        [
            "--model", str(tmp_path / "model"), f"output_dir={tmp_path / 'out'}", "clips.num_clips=1",
            "clips.num_frames=5", "seeds=[0]", "metrics.pose=false", "device=cpu",
        ]
    )  # fmt: skip
    result = json.loads((tmp_path / "out" / "presets.json").read_text())
    assert set(result["variants"]) == {"exact", "fast"}
    assert result["variants"]["exact"]["psnr_to_exact"] == 100
    assert 0 < result["variants"]["fast"]["psnr_to_exact"] < 100
    assert result["seed_spread"] is None
    assert (tmp_path / "out" / "presets.svg").read_text().startswith("<svg")
    assert "| `fast` |" in presets_measured(result)


def test_without_a_measurement_the_page_says_so():
    assert "has not been measured" in presets_measured(None)
