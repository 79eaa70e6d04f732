"""What every family promises, whatever it is inside; a new one is tested as soon as the registry has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import mimic
from mimic import load_pipeline
from mimic.families.base import AnimationPipeline
from mimic.families.family import Family
from mimic.families.registry import FAMILIES, find_family
from mimic.sampling.denoise import NotFiniteError
from mimic.weights.strict import WeightsError
from tests.mimic.families import toy
from tests.tiny import random_image, random_poses

HEIGHT, WIDTH = 16, 24
NUM_FRAMES = 6
FUSIONS = ("released", "progressive", "average", "none")
SHORT: dict[str, Any] = {
    "num_inference_steps": 2, "tile_size": 4, "tile_overlap": 2, "min_guidance_scale": 1.0,
    "max_guidance_scale": 2.0,
}  # fmt: skip
SHARED_ARGUMENTS = {
    "image", "image_pose", "height", "width", "num_frames", "tile_size", "tile_overlap",
    "num_inference_steps", "min_guidance_scale", "max_guidance_scale", "decode_chunk_size",
    "num_videos_per_prompt", "generator",
    "latents", "output_type", "callback_on_step_end", "callback_on_step_end_tensor_inputs", "return_dict",
    "fusion", "noise", "device",
}  # fmt: skip

_made: dict[str, AnimationPipeline[Any, Any]] = {}


@pytest.fixture(params=[*FAMILIES, toy.FAMILY.name])
def family(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each family's name; a toy that only runs is one of them for as long as a test lasts."""
    monkeypatch.setitem(FAMILIES, toy.FAMILY.name, toy.FAMILY)
    return str(request.param)


@pytest.fixture
def pipe(family: str) -> AnimationPipeline[Any, Any]:
    if family not in _made:
        _made[family] = FAMILIES[family].tiny_pipeline(height=HEIGHT, width=WIDTH, seed=0)
    return _made[family]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latents_of(pipe: Any, image: Any = None, **changes: Any) -> Tensor:
    arguments = {
        "image_pose": random_poses(NUM_FRAMES, HEIGHT, WIDTH),
        "generator": seeded(),
        "output_type": "latent",
        **SHORT,
    }
    image = random_image(HEIGHT, WIDTH) if image is None else image
    frames = pipe(image, **{**arguments, **changes}).frames
    assert isinstance(frames, Tensor)
    return frames


def test_registry_and_package_know_the_same_families() -> None:
    for record in FAMILIES.values():
        assert record.pipeline_class() is getattr(mimic, record.pipeline_name)


def test_it_says_what_drives_it_and_takes_the_shared_arguments(
    family: str, pipe: AnimationPipeline[Any, Any]
) -> None:
    import inspect

    assert isinstance(pipe, AnimationPipeline)
    assert pipe.driven_by in {"skeleton", "densepose"}
    assert isinstance(pipe.shows_reference_first, bool)
    assert set(inspect.signature(type(pipe).__call__).parameters) >= SHARED_ARGUMENTS
    assert hasattr(pipe, "from_original") == (FAMILIES[family].recognises is not Family.recognises)
    assert {"from_pretrained", "save_pretrained", "load_lora", "decode_stream"} <= set(dir(pipe))
    assert type(pipe).released.keys() >= {
        "tile_size", "tile_overlap", "num_inference_steps", "min_guidance_scale", "max_guidance_scale",
        "fusion", "noise", "decode_chunk_size",
    }  # fmt: skip


def test_picture_poses_and_seed_decide_and_nothing_else(pipe: AnimationPipeline[Any, Any]) -> None:
    before = torch.get_rng_state()
    first = latents_of(pipe)
    assert first.shape == (1, NUM_FRAMES, *pipe.latent_shape(HEIGHT, WIDTH))
    assert torch.equal(first, latents_of(pipe))
    assert torch.equal(before, torch.get_rng_state()), "a run with a generator draws from torch's own"
    assert torch.get_default_dtype() == torch.float32
    for change in (
        {"image": random_image(HEIGHT, WIDTH, seed=1)},
        {"image_pose": random_poses(NUM_FRAMES, HEIGHT, WIDTH, seed=1)},
        {"generator": seeded(1)},
    ):
        assert float((first - latents_of(pipe, **change)).abs().max()) > 1e-5, change


@pytest.mark.parametrize("fusion", FUSIONS)
def test_any_fusion_serves_any_number_of_frames_and_is_nothing_in_one_window(
    pipe: AnimationPipeline[Any, Any], fusion: str
) -> None:
    for num_frames in (5, 7):
        poses = random_poses(num_frames, HEIGHT, WIDTH)
        assert torch.isfinite(latents_of(pipe, image_pose=poses, fusion=fusion)).all()
    one = {"image_pose": random_poses(4, HEIGHT, WIDTH), "tile_overlap": 0}
    assert torch.equal(latents_of(pipe, fusion=fusion, **one), latents_of(pipe, fusion="average", **one))


def test_videos_of_a_batch_are_single_runs(pipe: AnimationPipeline[Any, Any]) -> None:
    images = [random_image(HEIGHT, WIDTH, seed) for seed in (1, 2)]
    poses = torch.stack([random_poses(NUM_FRAMES, HEIGHT, WIDTH, seed) for seed in (3, 4)])
    together = latents_of(pipe, images, image_pose=poses, generator=[seeded(5), seeded(6)])
    for item, (image, pose, seed) in enumerate(zip(images, poses, (5, 6))):
        alone = latents_of(pipe, image, image_pose=pose, generator=seeded(seed))
        torch.testing.assert_close(together[item : item + 1], alone, atol=1e-5, rtol=1e-5)


def test_maps_may_be_drawn_when_they_are_needed(pipe: AnimationPipeline[Any, Any]) -> None:
    maps = random_poses(NUM_FRAMES, HEIGHT, WIDTH)
    asked: list[int] = []

    def draw(frames: Any) -> Tensor:
        asked.extend(frames)
        return maps[list(frames)]

    assert torch.equal(
        latents_of(pipe, image_pose=draw, num_frames=NUM_FRAMES), latents_of(pipe, image_pose=maps)
    )
    assert set(asked) == set(range(NUM_FRAMES))


def test_what_a_call_leaves_out_the_weights_say_and_then_the_publication(family: str) -> None:
    pipe = FAMILIES[family].tiny_pipeline(height=HEIGHT, width=WIDTH, seed=0)
    rest = {"image_pose": random_poses(3, HEIGHT, WIDTH), "generator": seeded(), "output_type": "latent"}
    pipe.generation_defaults = {"num_inference_steps": 3}
    pipe(random_image(HEIGHT, WIDTH), **rest)
    assert pipe.num_timesteps == 3
    pipe(random_image(HEIGHT, WIDTH), **rest, num_inference_steps=1)
    assert pipe.num_timesteps == 1
    pipe.generation_defaults = {}
    plan = pipe.plan(num_frames=3, height=HEIGHT, width=WIDTH)
    assert plan.num_inference_steps == type(pipe).released["num_inference_steps"]


def test_frames_come_in_every_form_and_as_a_stream(pipe: AnimationPipeline[Any, Any]) -> None:
    def frames(output_type: str) -> Any:
        return pipe(  # type: ignore[operator]
            random_image(HEIGHT, WIDTH), random_poses(5, HEIGHT, WIDTH), output_type=output_type,
            generator=seeded(), decode_chunk_size=2, **SHORT,
        ).frames  # fmt: skip

    as_tensor = frames("pt")
    assert as_tensor.shape == (1, 5, 3, HEIGHT, WIDTH)
    assert 0 <= float(as_tensor.min()) <= float(as_tensor.max()) <= 1
    assert (frames("np").transpose(0, 1, 4, 2, 3) == as_tensor.numpy()).all()
    assert [picture.size for picture in frames("pil")[0]] == [(WIDTH, HEIGHT)] * 5
    assert torch.equal(torch.cat(list(pipe.decode_stream(frames("latent"), 2))), as_tensor[0])


def test_a_decoder_that_overflows_ends_the_run(pipe: AnimationPipeline[Any, Any]) -> None:
    latents = latents_of(pipe)
    latents[0, 1, 0, 0, 0] = float("nan")
    with pytest.raises(NotFiniteError, match="the decoded frames hold"):
        list(pipe.decode_stream(latents, 2))


def test_callbacks_see_change_and_stop(pipe: AnimationPipeline[Any, Any]) -> None:
    seen = []

    def callback(pipe: Any, step: int, _: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append((step, float(tensors["latents"].abs().max())))
        pipe._interrupt = step == 1
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 0 else {}

    latents_of(pipe, num_inference_steps=4, callback_on_step_end=callback)
    assert [step for step, _ in seen] == [0, 1]


def test_a_saved_model_is_the_same_model(pipe: AnimationPipeline[Any, Any], tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert not [
        value for value in index.values() if isinstance(value, list) and str(value[0]).startswith("mimic.")
    ]
    assert find_family(tmp_path).pipeline_class() is type(pipe)
    loaded = load_pipeline(tmp_path, device="cpu", dtype="fp32")
    loaded.set_progress_bar_config(disable=True)
    assert type(loaded) is type(pipe)
    assert loaded.generation_defaults == pipe.generation_defaults
    assert torch.equal(latents_of(loaded), latents_of(pipe))


@pytest.mark.parametrize("change", ["missing", "surplus", "shape"])
def test_weights_that_do_not_fit_are_refused(
    pipe: AnimationPipeline[Any, Any], tmp_path: Path, change: str
) -> None:
    pipe.save_pretrained(tmp_path)
    part = next(name for name, module in pipe.components.items() if module is pipe.denoiser)
    file = tmp_path / part / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    name = sorted(state)[0]
    if change == "missing":
        del state[name]
    elif change == "surplus":
        state["another.weight"] = torch.zeros(1)
    else:
        state[name] = torch.zeros(*state[name].shape, 2)
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises((WeightsError, ValueError), match=name if change != "surplus" else r"another\.weight"):
        load_pipeline(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion": "mean"}, "fusion is 'mean'"),
        ({"noise": "loud"}, "loud"),
        ({"tile_overlap": 4}, "overlap is 4"),
        ({"num_frames": 9}, "image_pose has 6 frames, num_frames is 9"),
        ({"image": []}, "there is no image"),
        ({"height": HEIGHT + 1}, "multiples of"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"output_type": "gif"}, "output_type"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(
    pipe: AnimationPipeline[Any, Any], changes: dict[str, Any], message: str
) -> None:
    calls: list[int] = []
    hook = pipe.denoiser.register_forward_hook(lambda *_: calls.append(1))
    try:
        with pytest.raises(ValueError, match=message) as caught:
            latents_of(pipe, **changes)
    finally:
        hook.remove()
    assert "\n" not in str(caught.value)
    assert not calls


class OneAfterAnother(toy.ToyPipeline):
    """A family whose frames follow one another: no windows, no fusion."""

    def animate(self, inputs: Any, plan: Any, *, output_type: str = "pil", **_: Any) -> Any:
        latents = torch.zeros(1, plan.num_frames, *self.latent_shape(plan.height, plan.width))
        for frame in range(1, plan.num_frames):
            latents[:, frame] = latents[:, frame - 1] + 1
        return self.decode(latents, plan.decode_chunk_size, output_type)


def test_a_family_may_animate_in_its_own_way(tmp_path: Path) -> None:
    pipe = toy.tiny_pipeline(height=HEIGHT, width=WIDTH, seed=0)
    pipe.__class__ = OneAfterAnother
    latents = pipe(  # type: ignore[operator]
        random_image(HEIGHT, WIDTH), random_poses(4, HEIGHT, WIDTH), output_type="latent", **SHORT
    ).frames
    assert latents[0, :, 0, 0, 0].tolist() == [0, 1, 2, 3]
