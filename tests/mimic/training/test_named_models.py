"""Each shipped training takes its first step with the model and the layers that it names.

Where that is a miniature, it is trained here, from the start that the YAML's first lines make; the networks
of released size are walked without values by `tests/benchmarks/test_training_memory.py`.
"""

import re
import shlex
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
BUNDLED = ("mimicmotion_mini",)
STARTED = ("mini_animate_anyone", "mini_magic_animate")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder in which the commands of the YAMLs run as they stand: paths in them are relative."""
    monkeypatch.chdir(tmp_path)
    for folder in ("configs/train", "benchmarks/ablation/vae", "benchmarks/mini_192/vae"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def train_one_step(name):
    assert run_command(["train", "--config", f"configs/train/{name}.yaml", *ONE_STEP]) == 0
    folder = Path(settings_of(CONFIGS / f"{name}.yaml").output_dir)
    assert len(log_of(folder)) == 1
    assert (folder / "final" / "model_index.json").is_file()


def make_start(name, monkeypatch):
    """As the first lines of the YAML say; the network of the poses learns from a single batch."""
    monkeypatch.setattr(start, "_NUM_POSE_BATCHES", 1)
    monkeypatch.setattr(start, "_NUM_POSE_ROUNDS", 1)
    (command,) = re.findall(
        r"^# python -m mimic\.miniature\.start (.*)$", (CONFIGS / f"{name}.yaml").read_text("utf-8"), re.M
    )
    monkeypatch.setattr("sys.argv", ["start", *shlex.split(command)])
    start.main()


def test_no_shipped_training_is_left_out():
    trained = {*BUNDLED, *(f"{family}_stage{stage}" for family in STARTED for stage in (1, 2)), "mini"}
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
@pytest.mark.parametrize("family", STARTED)
def test_a_miniature_trains_as_named_from_its_start_to_its_second_stage(family, here, monkeypatch):
    make_start(f"{family}_stage1", monkeypatch)
    train_one_step(f"{family}_stage1")
    train_one_step(f"{family}_stage2")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_vaes_train_as_named_and_the_miniature_on_them(here, monkeypatch):
    for name in ("mini_vae", "mini_vae_clips"):
        command = ["train", "--config", f"configs/train/{name}.yaml", *ONE_STEP_OF_A_VAE]
        assert run_command(command) == 0
        assert Path(f"runs/{name}/final/config.json").is_file()
    make_start("mini", monkeypatch)
    train_one_step("mini")
