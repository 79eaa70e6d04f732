"""Scripts written for diffusers' pipelines run on every family: parts, callbacks, loading, inputs."""

from __future__ import annotations

import inspect
import json
import logging
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import PIL.Image
import pytest
import torch
import transformers
from diffusers.callbacks import MultiPipelineCallbacks, SDCFGCutoffCallback
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mimic.families.registry import FAMILIES, load_pipeline
from mimic.weights.strict import WeightsError
from tests.tiny import random_image, random_poses

HEIGHT, WIDTH, NUM_FRAMES = 16, 24, 3
POSES = random_poses(NUM_FRAMES, HEIGHT, WIDTH)
IMAGE = random_image(HEIGHT, WIDTH)

_made: dict[str, Any] = {}


def tiny(family: str) -> Any:
    return FAMILIES[family].tiny_pipeline(height=HEIGHT, width=WIDTH, seed=0)


# What the other two show together is shown of Animate Anyone by the slow tests.
@pytest.fixture(
    params=["mimicmotion", "magic_animate", pytest.param("animate_anyone", marks=pytest.mark.slow)]
)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pipe(family: str) -> Any:
    if family not in _made:
        _made[family] = tiny(family)
    return _made[family]


def latents_of(pipe: Any, image: Any = IMAGE, image_pose: Any = POSES, **changes: Any) -> Tensor:
    arguments = {"generator": torch.Generator().manual_seed(0), "num_inference_steps": 2} | changes
    frames = pipe(image, image_pose, output_type="latent", **arguments).frames
    assert isinstance(frames, Tensor)
    return frames


def test_a_second_pipeline_of_the_same_parts_has_the_same_defaults(family: str) -> None:
    pipe = tiny(family)
    pipe.generation_defaults = {"num_inference_steps": 3, "height": HEIGHT, "width": WIDTH}
    for second in (type(pipe)(**pipe.components), type(pipe).from_pipe(pipe)):
        assert second.generation_defaults == pipe.generation_defaults
        assert second.denoiser is pipe.denoiser
        second.generation_defaults["num_inference_steps"] = 9
        assert pipe.generation_defaults["num_inference_steps"] == 3, "the first pipeline is left alone"


def test_parts_taken_one_by_one_of_a_loaded_model_bring_its_defaults(family: str, tmp_path: Path) -> None:
    pipe = tiny(family)
    pipe.generation_defaults = {"num_inference_steps": 3, "height": HEIGHT, "width": WIDTH}
    pipe.save_pretrained(tmp_path)
    loaded = type(pipe).from_pretrained(tmp_path)
    names = [name for name in inspect.signature(type(pipe).__init__).parameters if name != "self"]
    second = type(pipe)(**{name: getattr(loaded, name) for name in names})
    assert second.generation_defaults == pipe.generation_defaults


def test_diffusers_own_class_loads_a_saved_model_strictly(pipe: Any, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    loaded = diffusers.DiffusionPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert type(loaded) is type(pipe)
    assert loaded.generation_defaults == pipe.generation_defaults
    assert torch.equal(latents_of(loaded), latents_of(pipe))
    file = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    save_file({key: state[key] for key in sorted(state)[1:]}, file, metadata={"format": "pt"})
    with pytest.raises((WeightsError, ValueError), match="missing|" + sorted(state)[0]):
        diffusers.DiffusionPipeline.from_pretrained(tmp_path)


def test_loading_says_each_part_as_diffusers_does(pipe: Any, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path, safe_serialization=False)
    log, said = logging.getLogger("diffusers.pipelines.pipeline_utils"), []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        loaded = type(pipe).from_pretrained(tmp_path)
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
    for name, part in loaded.components.items():
        if part is not None:
            assert any(line.startswith(f"Loaded {name} as ") for line in said), (name, said)
    loaded.set_progress_bar_config(disable=True)
    assert torch.equal(latents_of(loaded), latents_of(pipe))


def test_latents_of_an_interrupting_callback_are_the_result(pipe: Any) -> None:
    def stop(pipe: Any, step: int, _: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        pipe._interrupt = step == 1
        return {"latents": torch.full_like(tensors["latents"], 0.5)}

    result = latents_of(pipe, num_inference_steps=3, callback_on_step_end=stop)
    assert torch.equal(result, torch.full_like(result, 0.5))


def test_the_official_cutoff_callback_ends_guidance(pipe: Any) -> None:
    branches: list[int] = []
    hook = pipe.unet.register_forward_hook(lambda *_: branches.append(1))
    cutoff = SDCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=0)
    try:
        apart = {"num_inference_steps": 3, "guidance_scale": 2.0, "batch_guidance": False}
        guided = latents_of(pipe, **apart)
        assert len(branches) == 6
        assert pipe.guidance_scale == 2.0
        assert pipe.do_classifier_free_guidance
        branches.clear()
        cut = latents_of(pipe, callback_on_step_end=cutoff, **apart)
        assert len(branches) == 4, "one step with two predictions, two with one"
    finally:
        hook.remove()
    assert not pipe.do_classifier_free_guidance
    assert not torch.equal(guided, cut)
    both = {"image": [IMAGE, random_image(HEIGHT, WIDTH, 1)], "guidance_scale": 2.0}
    callbacks = MultiPipelineCallbacks([cutoff])
    assert latents_of(pipe, num_inference_steps=2, callback_on_step_end=callbacks, **both).isfinite().all()


def test_a_callback_changes_the_scale_and_the_embeddings(pipe: Any) -> None:
    def raise_scale(pipe: Any, *rest: Any) -> dict[str, Tensor]:
        pipe._guidance_scale += 1.0
        return {}

    def replace(pipe: Any, step: int, _: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"prompt_embeds": tensors["prompt_embeds"] + 1.0}

    def keep(pipe: Any, step: int, _: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"prompt_embeds": tensors["prompt_embeds"].clone()}

    plain = latents_of(pipe, guidance_scale=2.0)
    raised = latents_of(pipe, guidance_scale=2.0, callback_on_step_end=raise_scale)
    assert pipe.guidance_scale == 2.0 + pipe.num_timesteps
    assert not torch.equal(plain, raised)
    names = {"callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"], "guidance_scale": 2.0}
    assert torch.equal(plain, latents_of(pipe, callback_on_step_end=keep, **names))
    assert not torch.equal(plain, latents_of(pipe, callback_on_step_end=replace, **names))
    ramp = latents_of(pipe, min_guidance_scale=1.5, max_guidance_scale=2.5)
    assert pipe.guidance_scale.tolist() == [1.5, 2.0, 2.5]
    assert not torch.equal(ramp, plain)


def test_poses_of_every_form_are_the_same_poses(pipe: Any) -> None:
    maps = np.random.default_rng(0).integers(0, 256, (NUM_FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    maps[0] = 0
    tensor = torch.from_numpy(maps.copy())
    pictures = [PIL.Image.fromarray(each) for each in maps]
    expected = latents_of(pipe, image_pose=maps)
    forms = {
        "uint8 tensor, channels last": tensor,
        "uint8 tensor, channels first": tensor.permute(0, 3, 1, 2),
        "list of pictures": pictures,
        "list of arrays": list(maps),
        "one list for each video": [pictures],
        "floats in [0, 1], channels last": maps / np.float32(255),
        "floats in [-1, 1], channels last": maps / np.float32(127.5) - 1,
        "floats in [-1, 1], channels first": tensor.permute(0, 3, 1, 2) / 127.5 - 1,
    }
    for form, given in forms.items():
        found = latents_of(pipe, image_pose=given)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4, msg=form)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda maps: torch.cat([maps[:1], maps[1:] * float("nan")]), "NaN"),
        (lambda maps: torch.cat([maps[:1], (maps[1:] + 1) * 127.5]), r"have to be in \[-1, 1\]"),
        (lambda maps: maps.long(), "pose maps are torch.int64"),
        (lambda maps: maps[:, :2], "expected F x 3 x H x W"),
    ],
)
def test_poses_are_checked_in_every_frame(pipe: Any, change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        latents_of(pipe, image_pose=change(torch.zeros_like(POSES)))


def test_a_model_loaded_or_run_under_inference_mode_can_be_trained(pipe: Any, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    for file in tmp_path.glob("*/*.safetensors"):  # weights that start at odd addresses are copied
        save_file(load_file(file), file, metadata={"format": "pt", "pad": "x" * 9})
    with torch.inference_mode():
        loaded = load_pipeline(tmp_path, device="cpu")
        loaded.set_progress_bar_config(disable=True)
        latents_of(loaded, num_inference_steps=1)
    loaded.unet.requires_grad_(True)
    sum((weight**2).sum() for weight in loaded.unet.parameters()).backward()
    assert not [name for name, weight in loaded.unet.named_parameters() if weight.is_inference()]


def test_loading_in_threads_leaves_the_process_as_it_was(pipe: Any, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    loaded: list[Any] = []
    layers: list[nn.Module] = []
    is_done = threading.Event()

    def load() -> None:
        loaded.append(type(pipe).from_pretrained(tmp_path))

    def build() -> None:
        while not is_done.wait(0.001):
            layers.append(nn.Linear(2, 2))

    threads = [threading.Thread(target=load) for _ in range(3)]
    builder = threading.Thread(target=build)
    for thread in (builder, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    is_done.set()
    builder.join()
    assert len(loaded) == 3
    if int(transformers.__version__.split(".")[0]) < 5:
        layers.clear()  # while it reads, it replaces torch's functions for the whole process
    assert {layer.weight.device.type for layer in (*layers, nn.Linear(1, 1))} == {"cpu"}
    for each in loaded:
        weights = [weight for part in each.components.values() if isinstance(part, nn.Module)
                   for weight in part.parameters()]  # fmt: skip
        assert {weight.device.type for weight in weights} == {"cpu"}


@pytest.mark.parametrize("part", ["vae", pytest.param("unet", marks=pytest.mark.slow)])
def test_a_compiled_part_gives_the_same_video(pipe: Any, part: str) -> None:
    call = {"num_inference_steps": 1, "generator": torch.Generator(), "output_type": "pt"}
    expected = pipe(IMAGE, POSES, **call).frames
    network = getattr(pipe, part)
    try:
        setattr(pipe, part, torch.compile(network, backend="eager"))
        call["generator"] = torch.Generator()
        assert torch.equal(pipe(IMAGE, POSES, **call).frames, expected)
    finally:
        setattr(pipe, part, network)


@pytest.mark.slow
def test_each_part_may_have_a_precision_of_its_own(family: str) -> None:
    plain = latents_of(tiny(family))
    for name, part in tiny(family).components.items():
        if isinstance(part, nn.Module):
            pipe = tiny(family)
            getattr(pipe, name).to(torch.bfloat16)
            found = latents_of(pipe)
            assert found.isfinite().all(), name
            assert float((found.float() - plain).abs().max()) < 0.5 * float(plain.abs().max()), name


def test_an_absent_part_is_named_before_any_work(family: str) -> None:
    pipe = tiny(family)
    pipe.vae = None
    with pytest.raises(ValueError, match=r"the pipeline has no vae; load it with all of its parts"):
        latents_of(pipe)


@pytest.mark.parametrize("kind", ["AutoencoderKL", "AutoencoderTiny"])
def test_picture_vaes_of_diffusers_fit_the_stable_diffusion_families(kind: str) -> None:
    arguments: dict[str, Any] = {
        "AutoencoderKL": {
            "block_out_channels": (8, 8, 8), "norm_num_groups": 4,
            "down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3,
        },
        "AutoencoderTiny": {
            "encoder_block_out_channels": (8, 8, 8), "decoder_block_out_channels": (8, 8, 8),
            "num_encoder_blocks": (1, 1, 1), "num_decoder_blocks": (1, 1, 1),
        },
    }[kind]  # fmt: skip
    torch.manual_seed(0)
    vae = getattr(diffusers, kind)(**arguments).eval()
    for family in ("animate_anyone", "magic_animate"):
        pipe = tiny(family)
        pipe.vae = vae
        frames = pipe(IMAGE, POSES, num_inference_steps=1, output_type="pt").frames
        assert frames.shape == (1, NUM_FRAMES, 3, HEIGHT, WIDTH)
        pipe.vae = torch.compile(vae, backend="eager")
        again = pipe(IMAGE, POSES, num_inference_steps=1, output_type="pt").frames
        assert again.shape == frames.shape
    pipe = tiny("mimicmotion")
    pipe.vae = vae
    if kind == "AutoencoderTiny":
        with pytest.raises(ValueError, match=r"AutoencoderTiny.*other latents than those"):
            pipe(IMAGE, POSES, num_inference_steps=1)


def test_a_saved_model_stores_nothing_of_its_defaults_in_a_config(pipe: Any, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "unet" / "config.json").read_text(encoding="utf-8"))
    assert "_generation_defaults" not in config


def test_videos_are_exported_by_diffusers(tmp_path: Path) -> None:
    if find_spec("imageio"):
        assert find_spec("imageio_ffmpeg"), "what brings ImageIO into our environment has to bring its ffmpeg"
    pipe = tiny("mimicmotion")
    frames = pipe(IMAGE, POSES, num_inference_steps=1).frames[0]
    file = tmp_path / "video.mp4"
    diffusers.utils.export_to_video([frame.resize((64, 48)) for frame in frames], str(file), fps=7)
    assert file.stat().st_size > 100


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks at what is mapped in /proc")
def test_a_model_can_be_saved_where_it_came_from(pipe: Any, tmp_path: Path, monkeypatch: Any) -> None:
    pipe.save_pretrained(tmp_path)
    loaded = type(pipe).from_pretrained(tmp_path)
    saved, held = diffusers.DiffusionPipeline.save_pretrained, []

    def look(self: Any, *arguments: Any, **options: Any) -> None:
        maps = Path("/proc/self/maps").read_text().splitlines()
        held.extend(line for line in maps if str(tmp_path) in line)
        saved(self, *arguments, **options)

    monkeypatch.setattr(diffusers.DiffusionPipeline, "save_pretrained", look)
    loaded.save_pretrained(tmp_path)
    assert not held
    assert torch.equal(latents_of(type(pipe).from_pretrained(tmp_path)), latents_of(pipe))
