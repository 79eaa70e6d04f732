"""Validation comes after its step was saved, is recorded in that checkpoint, and ends nothing if it fails."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mimic.config.loading import ConfigError
from mimic.data.dataset import build_dataset
from mimic.data.transforms import as_pixels
from mimic.families.mimicmotion.training import MimicMotionTask
from mimic.families.registry import FAMILIES
from mimic.metrics.identity import FaceModel
from mimic.training.loop import train
from mimic.training.settings import TrainSettings
from mimic.training.validate import Faces
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

FACE_MODEL = Path(__file__).parents[2] / "goldens/dwpose/onnx/det_stub.onnx"
"""Any network of one square picture, which serves as a face model."""


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


def test_the_best_by_faces_needs_faces_and_a_face_model(tmp_path):
    face = {"every": 1, "best_by": "face_psnr"}
    with pytest.raises(ValueError, match=r"face_psnr, but data.regions is \['hands'\]: no face is"):
        quick_settings(tmp_path, validation=face)
    with pytest.raises(ValueError, match=r"best_by is identity, but validation.face_model is not set"):
        quick_settings(tmp_path, validation={"every": 1, "best_by": "identity"})
    (tmp_path / "no.onnx").write_text("text")
    with pytest.raises(ConfigError, match=r"validation.face_model: .*no\.onnx"):
        model = {"every": 1, "face_model": str(tmp_path / "no.onnx")}
        train(quick_settings(tmp_path / "run", validation=model), say=Said())


def test_faces_are_measured_in_their_region_and_by_a_face_model(tmp_path):
    data = {
        "regions": ["hands", "face"], "face_threshold": 0.0, "height": 96, "width": 96, "world": "portraits",
    }  # fmt: skip
    run = quick_settings(
        tmp_path,
        max_steps=1,
        data=data,
        validation={"every": 1, "num_clips": 2, "face_model": str(FACE_MODEL), "best_by": "identity"},
    )
    train(run, say=Said())
    figures = log_of(tmp_path)[-1]["validation"]
    assert figures["face_psnr"] > 0
    assert -1 <= figures["identity"] <= 1
    clips = build_dataset(run.data.model_copy(update={"latent_downscale": 4}), split="val", seed=0)
    sample, poses = clips.with_poses((0, 0))
    faces = Faces(FaceModel(FACE_MODEL), [poses])
    truth = as_pixels(sample.frames) / 2 + 0.5
    assert faces.measure(0, sample, truth)["identity"] == pytest.approx(1.0)
    unseen = poses.points.copy(), poses.scores * 0
    hidden = replace(poses, points=unseen[0], scores=unseen[1])
    assert Faces(FaceModel(FACE_MODEL), [hidden]).measure(0, sample, truth) == {}


def test_the_best_by_identity_needs_a_face_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(FaceModel, "embed", lambda *arguments: None)  # a dance seen from behind
    validation = {"every": 1, "num_clips": 1, "face_model": str(FACE_MODEL), "best_by": "identity"}
    with pytest.raises(ConfigError, match=r"identity, but none of the 1 validation clips shows a face"):
        train(quick_settings(tmp_path, validation=validation), say=Said())
    assert not (tmp_path / "log.jsonl").exists()


def test_the_best_by_hands_needs_hands_before_anything_is_trained(tmp_path):
    hands = {"every": 1, "best_by": "hand_psnr"}
    with pytest.raises(ValueError, match=r"best_by is hand_psnr, but data.regions is \[\]: .*best_by: psnr"):
        quick_settings(tmp_path, validation=hands, data={"regions": []}, objective={"amplification": {}})
    quick_settings(tmp_path, validation=hands | {"every": 0}, data={"regions": []})
    with pytest.raises(ConfigError, match=r"no hand has a mask in the 1 validation clips .*is 2"):
        train(quick_settings(tmp_path, validation=hands, data={"hand_threshold": 2.0}), say=Said())
    assert not (tmp_path / "log.jsonl").exists()
