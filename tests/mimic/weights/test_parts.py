"""Parts of model folders: what the index or the usual name says is loaded, completely, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DModel
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from mimic.weights.errors import SourceError
from mimic.weights.parts import find_files, load_part, load_parts
from mimic.weights.sources import sha256, weight_files
from mimic.weights.strict import WeightsError

State = dict[str, Tensor]
TORCH = {"diffusion_pytorch_model": "diffusion_pytorch_model", "model": "pytorch_model"}


def small_vae() -> AutoencoderKL:
    return AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=2)


def small_encoder() -> CLIPVisionModelWithProjection:
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "projection_dim": 4}
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(num_hidden_layers=2, image_size=4, patch_size=2, **sizes)
    )


def small_text_encoder() -> CLIPTextModel:
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "vocab_size": 9}
    return CLIPTextModel(CLIPTextConfig(num_hidden_layers=2, bos_token_id=0, eos_token_id=1, **sizes))


@pytest.fixture(params=[small_vae, small_encoder, small_text_encoder], ids=["vae", "encoder", "text"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[nn.Module, Path]:
    torch.manual_seed(0)
    module = request.param().eval()
    module.save_pretrained(tmp_path / "part")
    return module, tmp_path / "part"


def weights(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


def change(folder: Path, state: State) -> None:
    path = weights(folder)
    path.unlink()
    save_file(state, path, metadata={"format": "pt"})


def assert_loads(module: nn.Module, folder: Path, variant: str | None = None) -> None:
    loaded = load_part(type(module), folder, dtype=torch.float32, variant=variant)
    expected, found = module.state_dict(), loaded.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert not any(tensor.is_meta for tensor in (*loaded.parameters(), *loaded.buffers()))
    assert not loaded.training


def write_shards(folder: Path, state: State, names: list[str], index: str) -> None:
    """The state in files of these names, and the index that lists them."""
    keys = sorted(state)
    places = {key: names[place % len(names)] for place, key in enumerate(keys)}
    for name in names:
        own = {key: state[key].clone() for key in keys if places[key] == name}
        torch.save(own, folder / name) if name.endswith(".bin") else save_file(own, folder / name)
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": places}))


def test_what_was_saved_loads_in_any_precision(saved: tuple[nn.Module, Path]) -> None:
    module, folder = saved
    assert_loads(module, folder)
    assert load_part(type(module), folder, dtype=torch.float16).dtype == torch.float16


@pytest.mark.parametrize("kind", ["missing", "layer", "surplus", "shape", "all"])
def test_whatever_does_not_fit_is_listed(saved: tuple[nn.Module, Path], kind: str) -> None:
    module, folder = saved
    state = load_file(weights(folder))
    name = next(key for key in sorted(state) if key.endswith("bias"))
    lost: list[str] = []
    if kind in ("missing", "all"):
        lost = [sorted(state)[-1]]
    elif kind == "layer":
        lost = [key for key in state if ".layers.1." in key or ".resnets.1." in key or "layers.1." in key]
        assert len(lost) > 3
    for key in lost:
        del state[key]
    if kind in ("surplus", "all"):
        state["another.weight"] = torch.ones(1)
    if kind in ("shape", "all"):
        state[name] = torch.ones(3, 2)
    change(folder, state)
    with pytest.raises(WeightsError) as caught:
        load_part(type(module), folder, dtype=torch.float32)
    mismatch = caught.value.mismatch
    assert mismatch is not None
    assert len(mismatch.missing) == len(lost)
    assert mismatch.surplus == (["another.weight"] if kind in ("surplus", "all") else [])
    told = [line.split(":")[1] for line in mismatch.misshapen]
    expected = [" found [3, 2], expected [8]"] if kind in ("shape", "all") else []
    assert told in (expected, [" of another shape"] * len(expected))  # all that transformers 4 tells
    assert str(folder) in str(caught.value)


STRAYS = [
    "{stem} (copy).safetensors",
    "{stem}.safetensors.bak",
    "old.safetensors",
    "old.bin",
    "{stem}-00001-of-00002.safetensors",
    "{stem}.ema.safetensors",
    "{torch}.bin",
    "._{stem}.safetensors",
    "other.safetensors.index.json",
]


@pytest.mark.parametrize("stray", STRAYS)
def test_other_files_in_a_parts_folder_are_ignored(saved: tuple[nn.Module, Path], stray: str) -> None:
    module, folder = saved
    stem = weights(folder).stem
    (folder / stray.format(stem=stem, torch=TORCH[stem])).write_bytes(b"no weights at all")
    assert_loads(module, folder)


def test_an_index_whose_files_are_gone_is_ignored_where_the_usual_file_is_there(
    saved: tuple[nn.Module, Path],
) -> None:
    module, folder = saved
    index = {"metadata": {}, "weight_map": {"a": "x-00001-of-00002.safetensors"}}
    (folder / f"{weights(folder).name}.index.json").write_text(json.dumps(index))
    assert_loads(module, folder)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_files_that_an_index_lists_are_loaded_together(saved: tuple[nn.Module, Path], suffix: str) -> None:
    module, folder = saved
    state, stem = load_file(weights(folder)), weights(folder).stem
    weights(folder).unlink()
    stem = stem if suffix == "safetensors" else TORCH[stem]
    names = [f"{stem}-0000{i}-of-00002.{suffix}" for i in (1, 2)]
    write_shards(folder, state, names, f"{stem}.{suffix}.index.json")
    (folder / f"{stem}-00003-of-00003.{suffix}").write_bytes(b"of an older save")
    assert_loads(module, folder)
    (folder / names[1]).unlink()
    with pytest.raises(SourceError, match=rf"part lacks {names[1]} .*is ignored.*Copy it again"):
        load_part(type(module), folder, dtype=torch.float32)


def test_a_file_of_objects_in_an_index_is_refused(saved: tuple[nn.Module, Path]) -> None:
    module, folder = saved
    stem = TORCH[weights(folder).stem]
    weights(folder).unlink()
    torch.save({"a": slice(0, 3), "b": Path}, folder / f"{stem}-00001-of-00001.bin")
    index = {"weight_map": {"a": f"{stem}-00001-of-00001.bin"}}
    (folder / f"{stem}.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="is refused: it holds Python objects"):
        load_part(type(module), folder, dtype=torch.float32)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"weight_map": []}', '{"weight_map": {"a": "../b.safetensors"}}']
)
def test_a_damaged_index_is_told(saved: tuple[nn.Module, Path], content: str) -> None:
    module, folder = saved
    index = folder / f"{weights(folder).name}.index.json"
    index.write_text(content)
    with pytest.raises(SourceError, match=r"index\.json (is not valid JSON|holds a|has no|lists)"):
        load_part(type(module), folder, dtype=torch.float32)


def test_files_of_a_variant_are_taken_where_asked_for_or_where_only_they_are_there(
    saved: tuple[nn.Module, Path],
) -> None:
    module, folder = saved
    path = weights(folder)
    half = path.with_name(f"{path.stem}.fp16.safetensors")
    state = {
        key: (value + 1 if value.is_floating_point() else value) for key, value in load_file(path).items()
    }
    save_file(state, half)
    assert_loads(module, folder)
    other = load_part(type(module), folder, dtype=torch.float32, variant="fp16")
    assert not torch.equal(next(other.parameters()), next(module.parameters()))
    path.rename(half)
    assert_loads(module, folder)
    assert_loads(module, folder, variant="bf16")
    state = load_file(half)
    half.unlink()
    names = [f"{path.stem}.fp16-0000{i}-of-00002.safetensors" for i in (1, 2)]
    write_shards(folder, state, names, f"{path.stem}.safetensors.index.fp16.json")
    assert_loads(module, folder)


def test_a_gap_is_not_filled_with_another_precision(saved: tuple[nn.Module, Path]) -> None:
    module, folder = saved
    path = weights(folder)
    state = load_file(path)
    path.rename(path.with_name(f"{path.stem}.fp16.safetensors"))
    names = [f"{path.stem}-0000{i}-of-00002.safetensors" for i in (1, 2)]
    write_shards(folder, state, names, f"{path.name}.index.json")
    assert_loads(module, folder)
    (folder / names[0]).unlink()
    with pytest.raises(SourceError, match=f"part lacks {names[0]} "):
        load_part(type(module), folder, dtype=torch.float32)
    (folder / names[1]).unlink()  # an index alone is left from an older save
    assert_loads(module, folder)
    try:
        path.symlink_to(folder / "gone")
    except OSError:
        pytest.skip("this system makes no links")
    (folder / f"{path.name}.index.json").unlink()
    with pytest.raises(SourceError, match=rf"part lacks {path.name} \({path.name} is a broken link"):
        load_part(type(module), folder, dtype=torch.float32)


def test_a_part_without_weights_names_the_file_and_what_lies_there(saved: tuple[nn.Module, Path]) -> None:
    module, folder = saved
    name = weights(folder).name
    weights(folder).rename(folder / "x (copy).safetensors")
    with pytest.raises(
        SourceError, match=rf"part lacks {name} \(x \(copy\)\.safetensors is ignored\)\. Copy"
    ):
        load_part(type(module), folder, dtype=torch.float32)
    (folder / "config.json").unlink()
    with pytest.raises(SourceError, match=r"not found: .*config\.json"):
        load_part(type(module), folder, dtype=torch.float32)


def in_cache(cache: Path, source: Path) -> Path:
    """The part in a hub cache, as huggingface_hub lays it out: links to blobs."""
    snapshot = cache / "models--made-up--model" / "snapshots" / "0123abcd" / "vae"
    blobs = cache / "models--made-up--model" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in source.iterdir():
        shutil.copy(path, blobs / path.name)
        try:
            (snapshot / path.name).symlink_to(os.path.relpath(blobs / path.name, snapshot))
        except OSError:  # Windows without the right to make links: huggingface_hub copies, too
            shutil.copy(path, snapshot / path.name)
    return snapshot


@pytest.mark.parametrize("gap", ["missing", "dangling", "unfinished", "cut off"])
def test_gaps_in_the_hubs_cache_are_named_with_the_command_that_fills_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gap: str
) -> None:
    small_vae().save_pretrained(tmp_path / "saved")
    snapshot = in_cache(tmp_path / "cache", tmp_path / "saved")
    name = "diffusion_pytorch_model.safetensors"
    blob = tmp_path / "cache" / "models--made-up--model" / "blobs" / name
    load_part(AutoencoderKL, snapshot, dtype=torch.float32)
    if gap == "cut off":
        content = blob.read_bytes()[:-100]
        (snapshot / name).unlink()
        (snapshot / name).write_bytes(content)
    else:
        if gap == "missing" or not (snapshot / name).is_symlink():
            (snapshot / name).unlink()
        blob.rename(blob.with_name(f"{name}.incomplete")) if gap == "unfinished" else blob.unlink()
    command = f"Run `hf download made-up/model vae/{name}"
    place = f" --cache-dir {tmp_path / 'cache'}"
    with pytest.raises((SourceError, WeightsError)) as caught:
        load_part(AutoencoderKL, snapshot, dtype=torch.float32)
    force = " --force-download" if gap == "cut off" else ""
    assert f"{command}{place}{force}` once while online" in str(caught.value)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises((SourceError, WeightsError)) as caught:
        load_part(AutoencoderKL, snapshot, dtype=torch.float32)
    assert f"{command}{force}` once while online" in str(caught.value)


def test_vaes_saved_under_older_names_load(tmp_path: Path) -> None:
    vae = small_vae()
    vae.save_pretrained(tmp_path)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(weights(tmp_path))
    for new, name in old.items():
        state = {key.replace(f"attentions.0.{new}.", f"attentions.0.{name}."): state[key] for key in state}
    assert "decoder.mid_block.attentions.0.query.weight" in state
    change(tmp_path, state)
    assert_loads(vae, tmp_path)


def test_older_names_of_clip_load(tmp_path: Path) -> None:
    """Text encoders are saved with or without ``text_model.``, vision models with or without positions."""
    encoder = small_text_encoder()
    encoder.save_pretrained(tmp_path / "text")
    state = load_file(weights(tmp_path / "text"))
    state = {f"text_model.{key.removeprefix('text_model.')}": state[key] for key in state}
    change(tmp_path / "text", {**state, "text_model.embeddings.position_ids": torch.arange(77)[None]})
    assert_loads(encoder, tmp_path / "text")
    vision = small_encoder()
    vision.save_pretrained(tmp_path / "vision")
    state = load_file(weights(tmp_path / "vision"))
    change(tmp_path / "vision", {**state, "vision_model.embeddings.position_ids": torch.arange(5)[None]})
    assert_loads(vision, tmp_path / "vision")


def write_model(folder: Path) -> Path:
    small_vae().save_pretrained(folder / "vae")
    small_encoder().save_pretrained(folder / "image_encoder")
    index = {
        "_class_name": "Made",
        "vae": ["diffusers", "AutoencoderKL"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "none": [None, None],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def test_all_networks_of_a_model_are_loaded_but_those_that_are_given(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    parts = load_parts(folder, dtype={"vae": torch.float16, "default": torch.bfloat16}, given={})
    assert {name: part.dtype for name, part in parts.items()} == {
        "vae": torch.float16,
        "image_encoder": torch.bfloat16,
    }
    assert set(load_parts(folder, dtype=torch.float32, given={"vae": UNet2DModel})) == {"image_encoder"}
    assert load_parts(folder, dtype=torch.float32, given={"device_map": "balanced"}) == {}
    (folder / "image_encoder").rename(folder / "clip")
    with pytest.raises(SourceError, match=r"not found: .*image_encoder"):
        load_parts(folder, dtype=torch.float32, given={})
    told = "trying to load the model files of the `variant=fp16`.* has no files of the variant fp16"
    with pytest.raises(ValueError, match=told) as error:  # as diffusers' users catch it
        load_parts(folder, dtype=torch.float32, variant="fp16", given={})
    assert isinstance(error.value, SourceError)
    (folder / "model_index.json").write_text("{")
    with pytest.raises(SourceError, match=r"model_index\.json is not valid JSON"):
        load_parts(folder, dtype=torch.float32, given={})
    with pytest.raises(SourceError, match=r"not found: .*model_index\.json"):
        load_parts(folder / "vae", dtype=torch.float32, given={})


def test_parts_of_bundled_models_share_weights_by_their_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimic.weights.sources.ASSETS", tmp_path)
    small_vae().save_pretrained(tmp_path / "one" / "vae")
    weights = tmp_path / "one" / "vae" / "diffusion_pytorch_model.safetensors"
    other = tmp_path / "two" / "vae"
    other.mkdir(parents=True)
    shutil.copy(weights.with_name("config.json"), other)
    note = {"weights": "one/vae/diffusion_pytorch_model.safetensors", "sha256": sha256(weights)}
    (other / "shared.json").write_text(json.dumps(note))
    one, two = (
        load_part(AutoencoderKL, tmp_path / name / "vae", dtype=torch.float32) for name in ("one", "two")
    )
    assert all(torch.equal(tensor, two.state_dict()[key]) for key, tensor in one.state_dict().items())
    assert weight_files(tmp_path / "two") == {"vae/diffusion_pytorch_model.safetensors": weights}
    one.save_pretrained(other)
    assert find_files(other) == ([other / weights.name], []), "weights of its own come first"
    assert weight_files(tmp_path / "two") == {"vae/diffusion_pytorch_model.safetensors": other / weights.name}
    (other / weights.name).unlink()
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(SourceError, match="whose file has changed"):
        load_part(AutoencoderKL, other, dtype=torch.float32)
    (other / "shared.json").write_text(json.dumps(note | {"weights": "../outside.safetensors"}))
    with pytest.raises(SourceError, match="is not in this package"):
        load_part(AutoencoderKL, other, dtype=torch.float32)
