"""Several processes train as one does: the same losses, and checkpoints that go on anywhere."""

import os

import pytest
import torch
from safetensors.torch import load_file

from mimic.config.loading import ConfigError
from mimic.training.engine import check_engine
from mimic.training.loop import train
from tests.mimic.training.small import digests, losses_of, small_settings, train_together

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


@pytest.mark.slow
def test_processes_that_share_out_the_weights_train_and_one_goes_on(alone, tmp_path):
    settings = {"validation": {"every": 3, "num_clips": 1}, "checkpoints": {"every": 3}}
    train_together(small_settings(tmp_path, max_steps=3, **settings), 2, FSDP2)
    assert (tmp_path / "final" / "model_index.json").is_file()
    assert (tmp_path / "validation" / "step-000003.mp4").is_file()
    weights = load_file(tmp_path / "checkpoint-3" / "weights.safetensors")
    assert not any(isinstance(value, torch.distributed.tensor.DTensor) for value in weights.values())

    train(small_settings(tmp_path, max_steps=6), say=lambda line: None)
    assert losses_of(tmp_path) == pytest.approx(losses_of(alone)[:6], abs=1e-5)

    back = tmp_path / "back"
    train(small_settings(back, max_steps=3), say=lambda line: None)
    train_together(small_settings(back, max_steps=6), 2, FSDP2)
    assert losses_of(back) == pytest.approx(losses_of(alone)[:6], abs=1e-5)
    assert digests(back / "final").keys() == digests(tmp_path / "final").keys()


def test_what_a_launcher_asks_and_cannot_be_is_a_sentence(tmp_path, monkeypatch):
    settings = small_settings(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    if os.environ.get("HAS_DEEPSPEED") is None:
        with pytest.raises(ConfigError, match=r"DeepSpeed, which is not installed.*fsdp2\.yaml"):
            check_engine(settings)
    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.delenv("FSDP_VERSION", raising=False)
    with pytest.raises(ConfigError, match="fsdp_version: 2"):
        check_engine(settings)
