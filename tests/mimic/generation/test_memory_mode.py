"""Lower memory modes give the same frames; a run that runs out of memory continues in a lower one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mimic.config import load_inference_config
from mimic.families.mimicmotion.tiny import tiny_pipeline
from mimic.families.registry import FAMILIES
from mimic.generation import run_config
from mimic.generation.checks import InputError
from mimic.generation.memory_mode import (
    CHUNK_FRAMES,
    MODES,
    activation_bytes,
    apply_mode,
    is_out_of_memory,
    offload_groups,
)
from mimic.generation.ready import load_model
from mimic.models.memory import ChunkedResnetBlock
from mimic.models.svd_unet import PoseConditionedSVDUNet
from tests.dancers import Stage
from tests.tiny import needs_group_offloading, quiet, random_image, random_poses

SIZE, NUM_FRAMES = 32, 8


def latents_in(mode: str) -> torch.Tensor:
    pipe = quiet(tiny_pipeline(height=SIZE, width=SIZE, seed=0))
    apply_mode(pipe, mode)
    chunks = {m.chunk_frames for m in pipe.unet.modules() if isinstance(m, ChunkedResnetBlock)}
    assert chunks == {CHUNK_FRAMES[mode]} - {None}
    return pipe(
        random_image(SIZE, SIZE), random_poses(NUM_FRAMES, SIZE, SIZE), num_inference_steps=1,
        tile_size=NUM_FRAMES, guidance_scale=1.0, output_type="latent",
        generator=torch.Generator().manual_seed(0),
    ).frames  # fmt: skip


def test_lower_modes_give_the_same_frames() -> None:
    expected = latents_in("high")
    for mode in MODES[1:]:
        torch.testing.assert_close(latents_in(mode), expected, atol=1e-3, rtol=1e-4)  # of noise of 700


def test_a_mode_can_be_lowered_again() -> None:
    pipe = quiet(tiny_pipeline(height=SIZE, width=SIZE, seed=0))
    for mode in MODES[1:]:
        apply_mode(pipe, mode)
        chunks = {m.chunk_frames for m in pipe.unet.modules() if isinstance(m, ChunkedResnetBlock)}
        assert chunks == {CHUNK_FRAMES[mode]}


def test_estimates_do_not_rise_with_lower_modes() -> None:
    pipe = quiet(tiny_pipeline(height=SIZE, width=SIZE, seed=0))
    plan = pipe.plan(num_frames=NUM_FRAMES, height=SIZE, width=SIZE)
    estimates = [activation_bytes(pipe, plan, mode) for mode in MODES]
    assert estimates == sorted(estimates, reverse=True)
    assert min(estimates) > 0


@pytest.mark.parametrize("asked", ["auto", "high"])
def test_out_of_memory_continues_in_a_lower_mode_only_under_auto(
    asked: str, stage: Stage, tmp_path: Path
) -> None:
    case = {
        "name": "a", "ref_image_path": str(stage.reference),
        "ref_video_path": str(stage.driving_poses.save(tmp_path / "moves.npz")), "sample_stride": 1,
        "align": "robust", "num_inference_steps": 3, "max_frames": 3,
    }  # fmt: skip
    config = {"base_model_path": str(stage.model), "device": "cpu", "estimator": "blazepose"}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config | {"memory_mode": asked, "test_case": [case]}))
    calls: list[str] = []

    def fail_in_the_second_step(module: Any, *_: Any) -> None:
        if isinstance(module, PoseConditionedSVDUNet):
            is_lower = any(isinstance(part, ChunkedResnetBlock) for part in module.modules())
            calls.append("lower" if is_lower else "high")
            if calls == ["high", "high"]:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    said: list[str] = []
    handle = torch.nn.modules.module.register_module_forward_pre_hook(fail_in_the_second_step)
    try:
        outcome = run_config(
            load_inference_config(path), output_dir=tmp_path / "out", is_progress_shown=False, say=said.append
        )
    finally:
        handle.remove()
    if asked == "high":
        assert is_out_of_memory(outcome.failures[0].error)
        return
    assert outcome.failures == ()
    assert calls == ["high", "high", "lower", "lower"]  # one step is kept
    assert any("trying again with memory_mode: balanced" in line for line in said)
    report = json.loads((tmp_path / "out" / "a.json").read_text())
    assert report["memory_mode"] == {"asked": "auto", "used": "balanced"}


@needs_group_offloading
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_that_move_block_by_block_give_the_same_latents(family: str) -> None:
    """On the CPU blocks stay where they are, but run through the hooks that would move them."""

    def latents(pipe: Any) -> torch.Tensor:
        return pipe(
            random_image(SIZE, SIZE), random_poses(4, SIZE, SIZE), num_inference_steps=1, tile_size=4,
            tile_overlap=1, guidance_scale=2.0, output_type="pt", generator=torch.Generator().manual_seed(0),
            device="cpu",
        ).frames  # fmt: skip

    pipe = quiet(FAMILIES[family].tiny_pipeline(height=SIZE, width=SIZE, seed=0))
    assert not pipe.is_offloaded
    expected = latents(pipe)
    offload_groups(pipe, torch.device("cpu"))
    assert pipe.is_offloaded
    assert pipe.execution_device == torch.device("cpu")
    torch.testing.assert_close(latents(pipe), expected, atol=1e-4, rtol=0)
    blocks = [*pipe.denoiser.down_blocks, *pipe.denoiser.up_blocks]
    assert all(hasattr(block, "_diffusers_hook") for block in blocks)


def test_group_offload_without_a_gpu_is_one_sentence_before_loading(tmp_path: Path) -> None:
    config = load_inference_config("configs/demo.yaml", ["group_offload=true", "device=cpu"])
    with pytest.raises(InputError, match="CUDA device, block by block, and this run computes on cpu; leave"):
        load_model(config, tmp_path, None, torch.device("cpu"))
