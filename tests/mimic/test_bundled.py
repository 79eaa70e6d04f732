"""The bundled miniatures: each family has one, it is small, and it animates people that it has not seen."""

from __future__ import annotations

import pytest

from benchmarks.mini_quality import run
from mimic import load_pipeline
from mimic.families.registry import FAMILIES, find_family
from mimic.files import ASSETS

MODELS = sorted(path.parent.name for path in ASSETS.glob("*/model_index.json"))
MAX_BYTES = 25e6


def test_each_family_has_the_one_that_its_record_names() -> None:
    bundled = {family.name: family.miniature for family in FAMILIES.values() if family.miniature}
    assert {find_family(ASSETS / name).name: f"bundled:{name}" for name in MODELS} == bundled


@pytest.mark.parametrize("name", MODELS)
def test_it_is_small_and_says_what_it_is(name: str) -> None:
    assert sum(file.stat().st_size for file in (ASSETS / name).rglob("*") if file.is_file()) <= MAX_BYTES
    defaults = load_pipeline(f"bundled:{name}", device="cpu").generation_defaults
    assert "knows synthetic dancers only" in defaults["warning"]


@pytest.mark.parametrize(
    "name", [name if name == "mini" else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_strangers_in_new_poses_come_out_better_than_by_copying_or_in_wrong_poses(name: str) -> None:
    pipe = load_pipeline(f"bundled:{name}", device="cpu")
    pipe.set_progress_bar_config(disable=True)
    figures = run(pipe, num_cases=4, num_frames=4, fps=8.0, detector_noise=0.5)["figures"]
    for baseline in ("copied reference", "wrong poses"):
        for metric, margin in (("psnr", 2.0), ("figure_psnr", 2.0), ("silhouette_iou", 0.1)):
            better = figures["model"][metric] - figures[baseline][metric]
            assert better > margin, f"{metric} against {baseline}: {better:+.2f}"
