"""The studio takes models by the names of the command line, and tells at the start what it cannot use."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimic.config import ConfigError
from mimic.ui.errors import StudioError
from mimic.ui.model import StudioModel
from mimic.weights.errors import SourceError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_released_model_is_its_base_its_checkpoint_and_its_settings() -> None:
    model = StudioModel("mimicmotion")
    assert model.run["base_model_path"] == "stabilityai/stable-video-diffusion-img2vid-xt-1-1"
    assert model.run["ckpt_path"] == "models/MimicMotion_1-1.pth"
    assert model.settings["resolution"] == 576
    assert "seed" not in model.settings  # the page's counts
    with pytest.raises(SourceError, match="mimic download mimicmotion"):
        model.check()


@pytest.mark.parametrize(
    ("name", "device", "kind", "said"),
    [
        ("nothere", "cpu", SourceError, "there is no model folder nothere"),
        ("nothere.yaml", "cpu", ConfigError, "nothere.yaml"),
        ("weights.pth", "cpu", SourceError, "there is no checkpoint weights.pth"),
        ("bundled:mini", "tpu", ConfigError, "device is 'tpu'"),
        (
            "bundled:mini_magic_animate",
            "cpu",
            StudioError,
            "is driven by densepose; the studio fits skeletons",
        ),
    ],
)
def test_what_cannot_be_used_is_told_before_the_page_is_served(
    name: str, device: str, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        StudioModel(name, device).check()


def test_the_bundled_model_is_found_without_loading_it() -> None:
    model = StudioModel("bundled:mini", "cpu")
    model.check()
    assert "pipeline" not in vars(model._parts())


def test_a_device_that_is_named_wins_over_the_one_of_a_yaml() -> None:
    Path("own.yaml").write_text("base_model_path: bundled:mini\ndevice: cuda:7\n")
    assert StudioModel("own.yaml").run["device"] == "cuda:7"
    assert StudioModel("own.yaml", "cpu").run["device"] == "cpu"
