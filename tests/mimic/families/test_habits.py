"""Further habits of diffusers' users: offloading, what callbacks return, generators, precision by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from torch import Tensor, nn

from mimic.families.registry import FAMILIES, load_pipeline
from tests.tiny import random_image, random_poses

HEIGHT, WIDTH, NUM_FRAMES = 16, 24, 3
POSES = random_poses(NUM_FRAMES, HEIGHT, WIDTH)
IMAGE = random_image(HEIGHT, WIDTH)

_made: dict[str, tuple[Any, Tensor]] = {}


def tiny(family: str) -> Any:
    pipe = FAMILIES[family].tiny_pipeline(height=HEIGHT, width=WIDTH, seed=0)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def video(pipe: Any, **changes: Any) -> Tensor:
    call = {"generator": seeded(), "num_inference_steps": 2, "output_type": "pt"} | changes
    frames = pipe(IMAGE, POSES, **call).frames
    assert isinstance(frames, Tensor)
    return frames


# Most of it is one code for all families; the slow tests show it of the others.
@pytest.fixture(
    params=[
        family if family == "mimicmotion" else pytest.param(family, marks=pytest.mark.slow)
        for family in sorted(FAMILIES)
    ]
)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def made(family: str) -> tuple[Any, Tensor]:
    """A pipeline that no test changes, and its video."""
    if family not in _made:
        pipe = tiny(family)
        _made[family] = pipe, video(pipe)
    return _made[family]


def test_layers_are_not_offloaded_from_the_cpu_to_the_cpu(made: tuple[Any, Tensor]) -> None:
    pipe, _ = made
    for device in ("cpu", torch.device("cpu"), "cpu:0"):
        with pytest.raises(ValueError, match=r"enable_sequential_cpu_offload moves one layer at a.*GPU"):
            pipe.enable_sequential_cpu_offload(device=device)
    assert not pipe.is_offloaded


def _model_by_model(pipe: Any) -> None:
    pipe.enable_model_cpu_offload(device="cpu")


def _layer_groups(pipe: Any) -> None:
    pipe.enable_group_offload(onload_device=torch.device("cpu"), offload_type="leaf_level")


def _block_groups(pipe: Any) -> None:
    pipe.enable_group_offload(
        onload_device=torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1
    )


@pytest.mark.parametrize("offload", [_model_by_model, _layer_groups, _block_groups])
def test_offloading_changes_no_video_and_hooks_can_be_removed(
    family: str, made: tuple[Any, Tensor], offload: Callable[[Any], None]
) -> None:
    pipe = tiny(family)
    refusal = None
    try:
        offload(pipe)
    except RuntimeError as error:  # diffusers 0.37 offloads groups to a GPU alone
        refusal = str(error)
    if refusal is not None:
        assert offload is not _model_by_model
        assert "moves weights to a GPU and back, and there is none" in refusal
        return
    assert pipe.is_offloaded
    assert torch.equal(video(pipe), made[1])
    pipe.remove_all_hooks()
    assert pipe.is_offloaded == (offload is not _model_by_model), "groups are no hooks of accelerate"
    assert torch.equal(video(pipe), made[1])


def test_weights_that_are_there_for_their_layers_turn_alone_give_the_same_video(
    family: str, made: tuple[Any, Tensor]
) -> None:
    """As `enable_sequential_cpu_offload` does it on a GPU: between calls a layer's weights are on "meta"."""
    pipe = tiny(family)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            cpu_offload(part, torch.device("cpu"), offload_buffers=bool(part._parameters))
    assert pipe.is_offloaded
    assert {parameter.device.type for parameter in pipe.unet.parameters()} == {"meta"}
    assert torch.equal(video(pipe, device="cpu"), made[1])
    pipe.remove_all_hooks()
    assert torch.equal(video(pipe), made[1])


SWITCHES: dict[str, Callable[[Any], Any]] = {
    "slicing, and back": lambda pipe: (pipe.enable_attention_slicing(), pipe.disable_attention_slicing()),
    "processors put back": lambda pipe: pipe.unet.set_attn_processor(pipe.unet.attn_processors),
    "no LoRA to unload": lambda pipe: pipe.unload_lora_weights(),
    "no LoRA to disable": lambda pipe: pipe.disable_lora(),
    "no hooks to free": lambda pipe: pipe.maybe_free_model_hooks(),
    "no hooks to remove": lambda pipe: pipe.remove_all_hooks(),
    "no device map": lambda pipe: pipe.reset_device_map(),
    "checkpoints of gradients": lambda pipe: pipe.unet.enable_gradient_checkpointing(),
    "moved to where it is": lambda pipe: pipe.to("cpu", torch.float32),
}


def test_switches_without_effect_have_none(family: str, made: tuple[Any, Tensor]) -> None:
    pipe = tiny(family)
    for name, switch in SWITCHES.items():
        switch(pipe)
        assert torch.equal(video(pipe), made[1]), name


def test_switches_of_stable_diffusions_pipelines_work_or_say_what_is_missing(
    family: str, made: tuple[Any, Tensor]
) -> None:
    pipe = tiny(family)
    pipe.disable_vae_slicing()
    pipe.disable_vae_tiling()
    for switch, said in ((pipe.enable_vae_slicing, "Slicing"), (pipe.enable_vae_tiling, "Tiling")):
        with pytest.raises(NotImplementedError, match=f"{said} .*MiniTemporalVAE"):
            switch()
    if family == "mimicmotion":
        with pytest.raises(NotImplementedError, match="a PoseConditionedSVDUNet, has no FreeU"):
            pipe.enable_freeu(0.9, 0.2, 1.2, 1.4)
    else:
        pipe.enable_freeu(0.9, 0.2, 1.2, 1.4)
        assert not torch.equal(video(pipe), made[1])
    pipe.disable_freeu()
    assert torch.equal(video(pipe), made[1])


def answering(answer: Any) -> Callable[..., Any]:
    return lambda pipe, i, t, tensors: answer(tensors) if callable(answer) else answer


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (lambda given: given["latents"], TypeError, "returned a Tensor; expected a dictionary"),
        (
            lambda given: {"latents": given["latents"].numpy()},
            TypeError,
            "latents as ndarray; expected",
        ),
        (
            lambda given: {"latents": given["latents"][:, :1]},
            ValueError,
            r"\[1, 1, .*expected \[1, 3,",
        ),
        (True, TypeError, "returned a bool"),
    ],
)
def test_what_a_callback_cannot_return_is_said(
    made: tuple[Any, Tensor], answer: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        video(made[0], callback_on_step_end=answering(answer))


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (None, ["latents"]),
        ({}, None),
        ({"latents": None}, []),
        ({"anything else": 1}, "latents"),
        (lambda given: given, ("latents",)),
    ],
)
def test_a_callback_that_changes_nothing_changes_nothing(
    made: tuple[Any, Tensor], answer: Any, asked: Any
) -> None:
    pipe, expected = made
    found = video(pipe, callback_on_step_end=answering(answer), callback_on_step_end_tensor_inputs=asked)
    assert torch.equal(found, expected)


def test_arguments_of_a_wrong_kind_are_one_sentence(made: tuple[Any, Tensor]) -> None:
    pipe, _ = made
    with pytest.raises(TypeError, match="callback_on_step_end is a str; expected a function"):
        video(pipe, callback_on_step_end="every step")
    with pytest.raises(ValueError, match="tensor_inputs has noise; available are latents"):
        video(pipe, callback_on_step_end=answering({}), callback_on_step_end_tensor_inputs="noise")
    for seed in (0, [0]):
        with pytest.raises(TypeError, match=r"generator has a int; expected torch\.Generator"):
            video(pipe, generator=seed)
    for number in (0, -1, 1.0):
        with pytest.raises(ValueError, match=rf"num_videos_per_prompt is {number}; expected a whole number"):
            video(pipe, num_videos_per_prompt=number)
    with pytest.raises(TypeError, match=r"takes no argument 'prompt'\."):
        video(pipe, prompt="a dancer")


def test_poses_and_noise_of_a_wrong_kind_are_one_sentence(made: tuple[Any, Tensor]) -> None:
    pipe, _ = made
    with pytest.raises(ValueError, match="image_pose has no frames; give maps, or None"):
        pipe(IMAGE, [], num_frames=NUM_FRAMES)
    noise = np.zeros((1, NUM_FRAMES, *pipe.latent_shape(HEIGHT, WIDTH)), np.float32)
    with pytest.raises(ValueError, match="latents are a ndarray; expected a tensor"):
        video(pipe, latents=noise)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("unet", nn.DataParallel, "unet is a DataParallel without a config.*torchrun"),
        ("vae", nn.Sequential, "vae is a Sequential without a config"),
    ],
)
def test_a_network_in_a_wrapper_is_named_before_any_work(
    family: str, name: str, change: Callable[[Any], Any], said: str
) -> None:
    pipe = tiny(family)
    setattr(pipe, name, change(getattr(pipe, name)))
    with pytest.raises(ValueError, match=said):
        video(pipe)


def test_the_class_of_a_scheduler_is_named_before_any_work(family: str) -> None:
    pipe = tiny(family)
    pipe.scheduler = type(pipe.scheduler)
    with pytest.raises(ValueError, match=r"the scheduler is the class \w+; make one with \w+\.from_config"):
        video(pipe)


def test_a_network_in_place_of_the_vae_is_named_before_any_work(family: str) -> None:
    pipe = tiny(family)
    pipe.vae = pipe.unet
    with pytest.raises(ValueError, match=r"the pipeline's vae is a .*UNet, which is no VAE"):
        video(pipe)


def test_a_run_that_a_callback_ended_leaves_the_pipeline_whole(family: str, made: tuple[Any, Tensor]) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    pipe = tiny(family)
    pipe.enable_model_cpu_offload(device="cpu")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            video(pipe, callback_on_step_end=fail)
    assert torch.equal(video(pipe), made[1])


def test_a_call_in_a_call_is_refused_and_both_run_with_schedulers_of_their_own(
    family: str, made: tuple[Any, Tensor]
) -> None:
    pipe, expected = tiny(family), made[1]
    inner: list[Tensor] = []

    def refused(running: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        with pytest.raises(RuntimeError, match="with another scheduler: "):
            video(running)
        return tensors

    def beside(running: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        other = type(pipe).from_pipe(pipe, scheduler=copy.deepcopy(pipe.scheduler))
        other.set_progress_bar_config(disable=True)
        inner.append(video(other))
        return tensors

    for callback in (refused, beside):
        assert torch.equal(video(pipe, callback_on_step_end=callback), expected)
    assert len(inner) == 2
    assert all(torch.equal(each, expected) for each in inner)


def test_a_device_that_is_not_there_is_said(made: tuple[Any, Tensor], tmp_path: Path) -> None:
    pipe, _ = made
    with pytest.raises(ValueError, match="device is 'cuda:77', and torch sees no such device here"):
        video(pipe, device="cuda:77")
    pipe.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="device is 'cuda:77', and torch sees no such device here"):
        load_pipeline(tmp_path, device="cuda:77")


def test_generators_may_be_a_tuple(made: tuple[Any, Tensor]) -> None:
    pipe, expected = made
    two = video(pipe, generator=(seeded(), seeded()), num_videos_per_prompt=2)
    assert torch.equal(two, torch.cat([expected, expected]))


def test_a_precision_that_is_none_is_said_before_anything_is_loaded(
    made: tuple[Any, Tensor], tmp_path: Path
) -> None:
    pipe, _ = made
    pipe.save_pretrained(tmp_path)
    for given in ("auto", "float16", np.float16):
        with pytest.raises(TypeError, match=r"torch_dtype is .*; expected a torch\.dtype"):
            type(pipe).from_pretrained(tmp_path, torch_dtype=given)


def test_a_model_saved_in_pieces_of_a_variant_is_the_same(made: tuple[Any, Tensor], tmp_path: Path) -> None:
    pipe, expected = made
    pipe.save_pretrained(tmp_path, variant="fp16", max_shard_size="400KB")
    assert list(tmp_path.glob("unet/*.fp16-00002-of-*.safetensors"))
    for choice in ({"variant": "fp16"}, {}):
        loaded = type(pipe).from_pretrained(tmp_path, torch_dtype=torch.float32, **choice)
        loaded.set_progress_bar_config(disable=True)
        assert torch.equal(video(loaded), expected)
