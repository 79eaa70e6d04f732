"""Precision and window are resolved once: training, validation and export compute and see the same."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from mimic.families.mimicmotion.training import MimicMotionTask
from mimic.families.registry import FAMILIES
from mimic.training.loop import train
from mimic.training.policy import Policy, cast_frozen, resolve
from mimic.training.tasks import make_task
from tests.mimic.training.small import Said, log_of, small_settings

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SEEN = []


class Watched(MimicMotionTask):
    """MimicMotion that notes how validation runs it."""

    def generate(self, sample, *, seed):
        pipe = self.pipeline()

        def note(name):
            return lambda *arguments: SEEN.append((name, torch.is_autocast_enabled("cpu")))

        inside = {
            "unet": pipe.unet.conv_in,
            "pose_net": pipe.pose_net.conv_layers,
            "image_encoder": pipe.image_encoder.visual_projection,
        }
        hooks = [module.register_forward_pre_hook(note(name)) for name, module in inside.items()]
        SEEN.append(tuple(pipe.default(name) for name in ("tile_size", "tile_overlap", "decode_chunk_size")))
        try:
            return super().generate(sample, seed=seed)
        finally:
            for hook in hooks:
                hook.remove()


@pytest.fixture
def _watched(monkeypatch):
    SEEN.clear()
    record = replace(FAMILIES["mimicmotion"], name="watched", task=f"{__name__}:Watched")
    monkeypatch.setitem(FAMILIES, "watched", record)


@pytest.mark.parametrize(
    ("precision", "frozen", "device", "expected"),
    [
        ("fp32", "auto", CPU, torch.float32),
        ("bf16", "auto", CPU, torch.float32),
        ("fp32", "auto", CUDA, torch.float32),
        ("bf16", "auto", CUDA, torch.bfloat16),
        ("fp16", "auto", CUDA, torch.float32),
        ("bf16", "fp32", CUDA, torch.float32),
        ("fp32", "bf16", CPU, torch.bfloat16),
    ],
)
def test_frozen_weights_are_bf16_on_gpus_that_train_so_unless_set_otherwise(
    tmp_path, precision, frozen, device, expected
):
    settings = small_settings(tmp_path, precision=precision, frozen_dtype=frozen)
    policy = resolve(settings, device)
    assert policy.frozen == expected
    assert policy.casts_networks == (expected == torch.bfloat16 and precision == "bf16")


def test_what_trains_stays_float32_and_what_does_not_is_cast(tmp_path):
    settings = small_settings(tmp_path, trainable=["pose_net"], lora={"rank": 2}, precision="bf16")
    pytest.importorskip("peft")
    task = make_task(settings)
    assert not cast_frozen(task, Policy(torch.bfloat16, torch.float32), is_divided=False)
    assert cast_frozen(task, Policy(torch.bfloat16, torch.bfloat16), is_divided=True)
    for module in task.frozen.values():
        assert {parameter.dtype for parameter in module.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in task.model.parameters()} == {torch.float32}, "of one dtype"
    assert cast_frozen(task, Policy(torch.bfloat16, torch.bfloat16), is_divided=False)
    for parameter in task.model.parameters():
        is_cast = not parameter.requires_grad and parameter.ndim > 1
        assert parameter.dtype == (torch.bfloat16 if is_cast else torch.float32)
    assert any(parameter.dtype == torch.bfloat16 for parameter in task.model.parameters())


@pytest.mark.parametrize("is_upcast", [True, False])
def test_a_vae_that_overflows_in_half_precision_keeps_float32(tmp_path, is_upcast):
    task = make_task(small_settings(tmp_path))
    vae = task.frozen["vae"]
    vae.register_to_config(force_upcast=is_upcast)
    cast_frozen(task, Policy(torch.float16, torch.float16), is_divided=True)
    assert vae.dtype == (torch.float32 if is_upcast else torch.float16)
    assert task.frozen["image_encoder"].dtype == torch.float16


@pytest.mark.usefixtures("_watched")
def test_validation_computes_as_training_does_and_the_export_is_exact(tmp_path):
    pytest.importorskip("peft")
    settings = small_settings(
        tmp_path,
        family="watched",
        max_steps=2,
        trainable=["pose_net"],
        lora={"rank": 2},
        precision="bf16",
        frozen_dtype="bf16",
        validation={"every": 2, "num_clips": 1, "decode_chunk_size": 1},
    )
    said = Said()
    train(settings, say=said)
    assert "no validation" not in str(said)
    # Two frames and the reference's: the trained window, in validation and with the weights.
    windows, calls = SEEN[0], set(SEEN[1:])
    assert windows == (3, 2, 1)
    assert calls == {("unet", True), ("pose_net", True), ("image_encoder", False)}
    defaults = json.loads((tmp_path / "final" / "mimic.json").read_text())["generation_defaults"]
    assert (defaults["tile_size"], defaults["tile_overlap"]) == (3, 2)
    assert "decode_chunk_size" not in defaults, "how validation decodes is no property of the weights"
    first = MimicMotionTask.tiny_pipeline(height=32, width=32, seed=0)
    final = load_file(tmp_path / "final" / "unet" / "diffusion_pytorch_model.safetensors")
    for name, weight in first.unet.state_dict().items():
        assert final[name].dtype == torch.float32
        assert torch.equal(final[name], weight) or ".to_" in name, f"{name} lost digits"
    encoder = load_file(tmp_path / "final" / "image_encoder" / "model.safetensors")
    assert torch.equal(encoder["visual_projection.weight"], first.image_encoder.visual_projection.weight)
    assert all(torch.isfinite(torch.tensor(line["loss"])) for line in log_of(tmp_path))


@pytest.mark.parametrize(
    ("family", "objective", "window"),
    [
        ("mimicmotion", {}, 8),
        ("mimicmotion", {"with_reference_frame": False}, 7),
        ("animate_anyone", {"stage": 2}, 7),
        ("animate_anyone", {"stage": 1}, None),
        ("magic_animate", {"stage": 2}, 7),
        ("magic_animate", {"stage": 1}, None),
    ],
)
def test_the_window_is_what_the_model_saw_and_pictures_have_none(tmp_path, family, objective, window):
    data = {"num_frames": 7, "height": 64, "width": 64}
    if family == "magic_animate":
        data["pose_kind"] = "densepose"
    settings = small_settings(tmp_path, family=family, objective=objective, trainable=[], data=data)
    pipeline = make_task(settings).pipeline()
    defaults = pipeline.generation_defaults
    assert defaults.get("tile_size") == window
    assert defaults.get("tile_overlap") == (
        None if window is None else min(pipeline.default("tile_overlap"), 6)
    )
