"""Several processes train as one does: the same losses, and checkpoints that go on anywhere."""

import os
import shutil
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from mimic.config.loading import ConfigError
from mimic.families.mimicmotion.training import MimicMotionTask
from mimic.training.engine import check_engine
from mimic.training.loop import train
from tests.mimic.training.small import (
    digests,
    log_of,
    losses_of,
    quick_settings,
    run_together,
    shares_out_on_cpus,
    small_settings,
    train_together,
)

FSDP2 = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    train(small_settings(folder, max_steps=20), say=lambda line: None)
    return folder


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(alone, tmp_path):
    train_together(small_settings(tmp_path, max_steps=20), 2)
    assert losses_of(tmp_path) == pytest.approx(losses_of(alone), abs=1e-5)
    train(small_settings(tmp_path, max_steps=22), say=lambda line: None)
    assert len(losses_of(tmp_path)) == 22


@shares_out_on_cpus
@pytest.mark.slow
def test_processes_that_share_out_the_weights_train_and_one_goes_on(alone, tmp_path):
    settings = {"validation": {"every": 3, "num_clips": 1}, "checkpoints": {"every": 3}}
    train_together(small_settings(tmp_path, max_steps=3, **settings), 2, FSDP2)
    assert (tmp_path / "final" / "model_index.json").is_file()
    assert (tmp_path / "validation" / "step-000003.mp4").is_file()
    files = {path.name for path in (tmp_path / "checkpoint-3").glob("weights*")}
    assert files == {"weights-00001-of-00002.safetensors", "weights-00002-of-00002.safetensors"}

    train(small_settings(tmp_path, max_steps=6), say=lambda line: None)
    assert losses_of(tmp_path) == pytest.approx(losses_of(alone)[:6], abs=1e-5)

    back = tmp_path / "back"
    train(small_settings(back, max_steps=3), say=lambda line: None)
    train_together(small_settings(back, max_steps=6), 2, FSDP2)
    assert losses_of(back) == pytest.approx(losses_of(alone)[:6], abs=1e-5)
    assert digests(back / "final").keys() == digests(tmp_path / "final").keys()


def train_without_the_model(folder: Path, environment: dict[str, str]) -> None:
    """Train on shared-out weights; the folder of the model is gone after the first step."""
    os.environ.update(environment)
    AcceleratorState._reset_state(reset_partial_state=True)
    model = str(folder / "model")
    settings = quick_settings(
        folder / "run", model=model, max_steps=2, validation={"every": 1, "num_clips": 1}
    )

    def say(line: str) -> None:
        if line.startswith("step 1/"):
            shutil.move(model, folder / "elsewhere")

    train(settings, say=say)


def test_validation_of_shared_out_weights_does_not_read_the_model_again(tmp_path):
    MimicMotionTask.tiny_pipeline(height=32, width=32, seed=0).save_pretrained(tmp_path / "model")
    run_together(train_without_the_model, 2, tmp_path, environment=FSDP2)
    assert (tmp_path / "elsewhere").is_dir()
    assert all("psnr" in line["validation"] for line in log_of(tmp_path / "run"))
    assert (tmp_path / "run" / "final" / "model_index.json").is_file()


def test_what_a_launcher_asks_and_cannot_be_is_a_sentence(tmp_path, monkeypatch):
    settings = small_settings(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    if os.environ.get("HAS_DEEPSPEED") is None:
        with pytest.raises(ConfigError, match=r"DeepSpeed, which is not .*mimic configs accelerate/fsdp2"):
            check_engine(settings)
    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.delenv("FSDP_VERSION", raising=False)
    with pytest.raises(ConfigError, match="fsdp_version: 2"):
        check_engine(settings)
