"""Validation comes after its step was saved, is recorded in that checkpoint, and ends nothing if it fails."""

import os
import signal
from dataclasses import replace

import pytest
import torch

from mimic.config.loading import ConfigError
from mimic.families.mimicmotion.training import MimicMotionTask
from mimic.families.registry import FAMILIES
from mimic.training.loop import train
from mimic.training.settings import TrainSettings
from tests.mimic.training.small import (
    Said,
    digests,
    facts_of,
    finish,
    log_of,
    losses_of,
    quick_settings,
    start,
    train_here,
)


class OutOfMemory(MimicMotionTask):
    """MimicMotion on a card that validation does not fit."""

    def generate(self, sample, *, seed):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has a total")


class Deadly(MimicMotionTask):
    """MimicMotion on a machine that kills for memory in validation, as long as a file says so."""

    def generate(self, sample, *, seed):
        if os.path.exists(os.environ["DEADLY"]):
            if os.environ.get("ONCE"):
                os.unlink(os.environ["DEADLY"])
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        return super().generate(sample, seed=seed)


def settings(folder, **changes) -> TrainSettings:
    content = {"max_steps": 3, "validation": {"every": 1, "num_clips": 1}, "checkpoints": {"keep": 9}}
    return quick_settings(folder, **content | changes)


def train_deadly(folder, flag, once):
    FAMILIES["deadly"] = replace(FAMILIES["mimicmotion"], name="deadly", task=f"{__name__}:Deadly")
    train_here(settings(folder, family="deadly"), {"DEADLY": str(flag), "ONCE": once})


def test_a_validation_that_fails_is_recorded_with_its_reason_and_the_training_ends(tmp_path, monkeypatch):
    record = replace(FAMILIES["mimicmotion"], name="failing", task=f"{__name__}:OutOfMemory")
    monkeypatch.setitem(FAMILIES, "failing", record)
    said = Said()
    outcome = train(settings(tmp_path, family="failing"), say=said)
    assert outcome.final is not None
    reason = "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total"
    for step in (1, 2, 3):
        assert facts_of(tmp_path / f"checkpoint-{step}")["validation"] == {"failed": reason}
        assert f"no validation after step {step}: {reason}; the training continues" in str(said)
        assert log_of(tmp_path)[step - 1]["validation"] == {"failed": reason}
    assert [line["step"] for line in log_of(tmp_path)] == [1, 2, 3]
    said.clear()
    train(settings(tmp_path, family="failing"), say=said)
    assert "the training continues" not in str(said), "what is recorded is not made again"


def test_three_restarts_under_a_validation_that_always_kills_end_trained(tmp_path):
    flag = tmp_path / "flag"
    flag.touch()
    codes = [finish([start(train_deadly, tmp_path / "run", flag, "")])[0] for _ in range(3)]
    assert codes[-1] == 0
    assert codes[0] != 0
    assert (tmp_path / "run" / "final" / "model_index.json").is_file()
    assert losses_of(tmp_path / "run")[-1] > 0
    assert len(losses_of(tmp_path / "run")) == 3
    assert "ended the process 2 times" in facts_of(tmp_path / "run" / "checkpoint-1")["validation"]["failed"]


def test_a_resume_makes_the_validation_that_was_due_and_ends_as_an_undisturbed_training(tmp_path):
    flag = tmp_path / "flag"
    assert finish([start(train_deadly, tmp_path / "whole", flag, "")]) == [0]
    flag.touch()
    assert finish([start(train_deadly, tmp_path / "parts", flag, "1")]) != [0]
    assert facts_of(tmp_path / "parts" / "checkpoint-1")["validation"] == {"attempts": 1}
    assert [line["step"] for line in log_of(tmp_path / "parts")] == [1]
    assert finish([start(train_deadly, tmp_path / "parts", flag, "1")]) == [0]
    whole, parts = (
        [(line["step"], line["loss"], line["validation"]) for line in log_of(tmp_path / name)]
        for name in ("whole", "parts")
    )
    assert parts == whole
    for step in (1, 2, 3):
        before, after = (facts_of(tmp_path / name / f"checkpoint-{step}") for name in ("whole", "parts"))
        assert before["validation"]["figures"] == after["validation"]["figures"]
        assert before["progress"] == after["progress"]
    assert digests(tmp_path / "parts" / "final") == digests(tmp_path / "whole" / "final")
    assert not list((tmp_path / "parts").rglob("*.partial*"))


def test_the_best_by_hands_needs_hands_before_anything_is_trained(tmp_path):
    hands = {"every": 1, "best_by": "hand_psnr"}
    with pytest.raises(ValueError, match=r"best_by is hand_psnr, but data.regions is \[\]: .*best_by: psnr"):
        quick_settings(tmp_path, validation=hands, data={"regions": []}, objective={"amplification": {}})
    quick_settings(tmp_path, validation=hands | {"every": 0}, data={"regions": []})
    with pytest.raises(ConfigError, match=r"no hand has a mask in the 1 validation clips .*is 2"):
        train(quick_settings(tmp_path, validation=hands, data={"hand_threshold": 2.0}), say=Said())
    assert not (tmp_path / "log.jsonl").exists()
