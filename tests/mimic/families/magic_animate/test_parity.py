"""The recorded miniature of the released code, number by number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mimic.families.magic_animate.control import ControlResiduals
from mimic.models.reference import NormAlone, ReferenceBank, reference_blocks
from mimic.sampling.windows import lay_windows
from tests.mimic.families.magic_animate.miniature import (
    modules,
    pipeline,
    recorded,
    recorded_json,
    released_configs,
    source_image,
)

pytestmark = pytest.mark.usefixtures("_without_gradients")


@pytest.fixture
def _without_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def control() -> dict[str, Tensor]:
    return recorded("attention_control")


def _assert_near(found: Tensor, expected: Tensor, atol: float = 1e-4) -> None:
    torch.testing.assert_close(found, expected.to(found.dtype), atol=atol, rtol=0)


def _residuals(control: dict[str, Tensor], scale: float = 1.0, frames_at_a_time: int = 1) -> Any:
    """Of the three frames of the recorded forward."""
    maps = control["controlnet_cond"] * 2 - 1
    make = ControlResiduals(
        modules()["controlnet"],
        lambda frames: maps[frames],
        control["text_embeddings"][1:],
        windows=[[0, 1, 2]],
        scale=scale,
        frames_at_a_time=frames_at_a_time,
        budget_bytes=2**20,
    )
    return make(control["latents"][0].transpose(0, 1), control["timestep"], [0, 1, 2])


@pytest.mark.parametrize("frames_at_a_time", [1, 2, 16])
def test_the_controlnet_sees_each_frame_with_the_conditional_text(control, frames_at_a_time: int) -> None:
    residuals = _residuals(control, frames_at_a_time=frames_at_a_time)
    for i in (0, 4, 8, 11):
        _assert_near(residuals.down[i], control[f"controlnet_down_{i}"])
    _assert_near(residuals.mid, control["controlnet_mid"])
    _assert_near(_residuals(control, scale=0.5).mid, control["controlnet_mid_scale_0_5"])


@pytest.mark.parametrize("blocks", ["midup", "full"])
def test_writer_and_reader_pair_as_recorded(blocks: str) -> None:
    pairs = recorded_json("attention_pairs")[blocks]
    writer = reference_blocks(modules()["appearance_encoder"], blocks)
    reader = reference_blocks(modules()["unet"], blocks)
    assert sorted(map(tuple, pairs)) == sorted(zip(writer, reader))


@pytest.mark.parametrize("blocks", ["midup", "full"])
def test_the_appearance_encoder_banks_what_is_recorded(control, blocks: str) -> None:
    bank = _bank(control, blocks)
    expected = {key.split("/")[1] for key in control if key.startswith("bank_full/")}
    if blocks == "midup":
        expected = {name for name in expected if not name.startswith("down")}
    assert set(bank.features) == expected
    for name in expected:
        _assert_near(bank.features[name], control[f"bank_full/{name}"])


def test_the_appearance_encoder_ends_as_released_but_for_what_nobody_reads(control) -> None:
    """The released encoder leaves the last block's attention without weights; its output is discarded.

    With that leftover put in by hand, the whole network gives the recorded output.
    """
    encoder = modules()["appearance_encoder"]
    cut = next(module for module in encoder.modules() if isinstance(module, NormAlone))
    num_heads = released_configs()["appearance_encoder"]["attention_head_dim"]

    def leftover(_module: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        normed = cut.norm1(inputs[0]).unflatten(-1, (num_heads, -1)).transpose(1, 2)
        seen = functional.scaled_dot_product_attention(normed, normed, normed).transpose(1, 2).flatten(2)
        return 2 * (inputs[0] + seen)

    hook = cut.register_forward_hook(leftover)
    try:
        out = encoder(
            control["ref_latents"].expand(2, -1, -1, -1), control["timestep"], control["text_embeddings"]
        )
    finally:
        hook.remove()
    _assert_near(out, control["appearance_encoder_out"])


@pytest.mark.parametrize(
    ("name", "blocks", "attends", "dtype"),
    [
        ("controlnet_no_reference", None, None, None),
        ("midup_cfg_bank_fp16", "midup", (False, True), torch.float16),
        ("midup_cfg_bank_fp32", "midup", (False, True), torch.float32),
        ("midup_nocfg_bank_fp32", "midup", (True, True), torch.float32),
        ("full_cfg_bank_fp16", "full", (False, True), torch.float16),
        ("full_cfg_bank_fp32", "full", (False, True), torch.float32),
        ("full_nocfg_bank_fp32", "full", (True, True), torch.float32),
    ],
)
def test_the_unet_reads_the_reference_as_recorded(control, name, blocks, attends, dtype) -> None:
    residuals = _residuals(control)
    reading = None if blocks is None else _bank(control, blocks).rounded(dtype).read(attends)
    out = _unet(
        control,
        reference=reading,
        down_block_additional_residuals=tuple(part.repeat(2, 1, 1, 1) for part in residuals.down),
        mid_block_additional_residual=residuals.mid.repeat(2, 1, 1, 1),
    )
    _assert_near(out, control[f"unet_out_{name}"])


def test_the_unet_alone_gives_what_is_recorded(control) -> None:
    _assert_near(_unet(control), control["unet_out_no_control"])


@pytest.mark.parametrize("name", ["pipe1_single_window", "pipe2_three_windows"])
@pytest.mark.parametrize("compat", ["released_bank", "none"])
def test_the_pipeline_gives_the_recorded_latents_and_frames(name: str, compat: str, monkeypatch) -> None:
    case, expected = recorded_json("cases")[name], recorded(name)
    pipe = pipeline()
    if compat == "released_bank":  # `compat: released` would refuse clips that are no multiple of 16 frames
        monkeypatch.setattr("mimic.families.magic_animate.pipeline.RELEASED_NOISE_FRAMES", 1)
    maps = torch.from_numpy(recorded("condition_frames")["cond_u8"].numpy()[: case["video_length"]])
    latents = pipe(
        source_image(),
        maps.numpy(),
        tile_size=case["context_frames"],
        tile_overlap=case["context_overlap"],
        num_inference_steps=case["num_inference_steps"],
        guidance_scale=case["guidance_scale"],
        latents=expected["init_latents"][None],
        negative_prompt_embeds=expected["text_embeddings"][:1],
        prompt_embeds=expected["text_embeddings"][1:],
        output_type="latent",
        compat="released" if compat == "released_bank" else "none",
    ).frames
    _assert_near(latents.transpose(1, 2), expected["final_latents"], atol=2e-3)
    if "videos" in expected:
        frames = torch.cat(list(pipe.decode_stream(latents[:, expected["video_frames"]])))
        _assert_near(frames, expected["videos"][0].transpose(0, 1), atol=5e-4 + 1e-3)


@pytest.mark.parametrize("name", ["pipe1_single_window", "pipe2_three_windows"])
def test_windows_are_the_recorded_ones(name: str) -> None:
    case = recorded_json("cases")[name]
    arguments = case["video_length"], case["context_frames"]
    assert lay_windows(*arguments, case["context_overlap"], "closed") == case["windows"]
    assert lay_windows(*arguments, 0, "closed") == case["windows_controlnet"]


def test_the_scheduler_is_the_effective_one() -> None:
    common = recorded_json("cases")["_common"]
    scheduler = pipeline().scheduler
    effective = common["effective_scheduler_config"]
    assert {key: scheduler.config[key] for key in effective} == effective
    for steps, timesteps in common["timesteps"].items():
        scheduler.set_timesteps(int(steps))
        assert scheduler.timesteps.tolist() == timesteps


def _bank(control: dict[str, Tensor], blocks: str) -> ReferenceBank:
    bank = ReferenceBank(blocks)
    reference = control["ref_latents"].expand(2, -1, -1, -1)
    modules()["appearance_encoder"](reference, control["timestep"], control["text_embeddings"], bank)
    return bank


def _unet(control: dict[str, Tensor], **arguments: Any) -> Tensor:
    latents = control["latents"].transpose(1, 2).expand(2, -1, -1, -1, -1)
    out = modules()["unet"](latents, control["timestep"], control["text_embeddings"], **arguments).sample
    return out.transpose(1, 2)
