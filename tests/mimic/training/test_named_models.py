"""Each shipped training takes its first step with the model and the layers that it names.

Where that is a miniature, it is trained here; the networks of released size are walked without values by
`tests/benchmarks/test_training_memory.py`.
"""

import re
import shutil
from pathlib import Path

import pytest

from benchmarks import presets
from mimic.cli.main import main as run_command
from mimic.miniature import start
from mimic.miniature.train_vae import MiniVAESettings
from mimic.training.main import settings_of
from tests.mimic.training.small import log_of

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "configs" / "train"
ONE_STEP = ["max_steps=1", "batch_size=2", "num_workers=0", "cpu_threads=1", "tensorboard=false",
            "validation.every=0", "validation.at_start=false", "data.num_clips=2", "data.num_val_clips=1",
            "data.seconds=5.0"]  # fmt: skip
ONE_STEP_OF_A_VAE = ["max_steps=1", "batch_size=1", "num_workers=0", "dancers.num_pictures=5"]
BUNDLED = ("mimicmotion_mini", "mini")
IN_STAGES = ("mini_animate_anyone", "mini_magic_animate")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder in which the commands of the YAMLs run as they stand: paths in them are relative."""
    monkeypatch.chdir(tmp_path)
    for folder in ("configs/train", "benchmarks/ablation/vae"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def train_one_step(name):
    assert run_command(["train", "--config", f"configs/train/{name}.yaml", *ONE_STEP]) == 0
    folder = Path(settings_of(CONFIGS / f"{name}.yaml").output_dir)
    assert len(log_of(folder)) == 1
    assert (folder / "final" / "model_index.json").is_file()


def test_no_shipped_training_is_left_out():
    trained = {*BUNDLED, *(f"{family}_stage{stage}" for family in IN_STAGES for stage in (1, 2))}
    trained |= {"mimicmotion_mini_own", "debug", "mini_vae", "mini_vae_clips", "mini_many_steps"}
    settings = {path.stem: settings_of(path) for path in CONFIGS.glob("*.yaml")}
    small = {
        name
        for name, each in settings.items()
        if isinstance(each, MiniVAESettings) or each.model.startswith(("bundled:", "tiny", "runs/mini"))
    }
    assert trained == small, "the others have the released networks"
    assert settings["mimicmotion_mini_own"].trainable == settings["mimicmotion_mini"].trainable
    assert settings["mimicmotion_mini_own"].model == settings["mimicmotion_mini"].model


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLED)
def test_the_bundled_model_trains_as_named(name, here):
    train_one_step(name)


@pytest.mark.slow
def test_the_model_for_presets_trains_as_named(here):
    name = "mini_many_steps"
    (folder,) = re.findall(
        r"^# python -m benchmarks\.presets --make-start (\S+)$",
        (CONFIGS / f"{name}.yaml").read_text("utf-8"),
        re.M,
    )
    presets.main(["--make-start", folder])
    train_one_step(name)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("family", IN_STAGES)
def test_a_miniature_trains_as_named_in_both_stages(family, here):
    train_one_step(f"{family}_stage1")
    train_one_step(f"{family}_stage2")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_vaes_train_as_named_and_miniatures_start_on_them(here, monkeypatch):
    for name in ("mini_vae", "mini_vae_clips"):
        command = ["train", "--config", f"configs/train/{name}.yaml", *ONE_STEP_OF_A_VAE]
        assert run_command(command) == 0
        assert Path(f"runs/{name}/final/config.json").is_file()
    for name in ("mini", "mini_magic_animate"):
        config = CONFIGS / ("mini.yaml" if name == "mini" else f"{name}_stage1.yaml")
        monkeypatch.setattr(
            "sys.argv",
            ["start", "--vae", "runs/mini_vae/final", "--prior", f"bundled:{name}", "--config", str(config),
             "--output", f"runs/{name}_start"],
        )  # fmt: skip
        start.main()
        options = [*ONE_STEP, f"model=runs/{name}_start", f"output_dir=runs/{name}_on_it"]
        assert run_command(["train", "--config", str(config), *options]) == 0
