"""Every key of the released weights has its place, whole folders load, and what does not fit is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from mimic import MagicAnimatePipeline, load_pipeline
from mimic.families.magic_animate.keys import TEMPORAL, build_on_meta, read_temporal, released_temporal
from mimic.weights.errors import SourceError
from mimic.weights.motion_keys import is_motion_key, to_diffusers
from mimic.weights.strict import WeightsError, compare
from tests.mimic.families.magic_animate.miniature import (
    NUM_POSITIONS,
    modules,
    recorded_json,
    released_configs,
    released_state,
    vae,
)

FULL_SIZE = {
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "sample_size": 64,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}
CONTROLNET = {key: value for key, value in FULL_SIZE.items() if key not in {"sample_size", "up_block_types"}}
NAMES = ("unet", "appearance_encoder", "controlnet")


def test_every_full_size_key_has_its_place_and_none_is_left() -> None:
    recorded = recorded_json("keys_fullsize")
    counts = {name: sum(key.startswith(f"{name}.") for key in recorded) for name in NAMES}
    assert counts == {"unet": 1246, "appearance_encoder": 662, "controlnet": 340}
    found = {key: torch.empty(shape, device="meta") for key, (shape, _) in recorded.items()}
    networks = build_on_meta(FULL_SIZE, FULL_SIZE, CONTROLNET, num_positions=NUM_POSITIONS)
    expected = {
        f"{name}.{key}": tensor.shape
        for name, network in networks.items()
        for key, tensor in network.state_dict().items()
    }
    renamed = to_diffusers(found, source="the released weights")
    mismatch = compare(expected, {key: tensor.shape for key, tensor in renamed.items()})
    assert not mismatch, str(mismatch)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The recorded miniature as users have it: a base, the released folder, a VAE."""
    root = tmp_path_factory.mktemp("released")
    base, released = root / "base", root / "released"
    configs, state = released_configs(), released_state()

    def write(folder: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        save_file(
            {k: v.contiguous() for k, v in tensors.items()}, folder / "diffusion_pytorch_model.safetensors"
        )

    own = {
        name: {k.removeprefix(f"{name}."): v for k, v in state.items() if k.startswith(f"{name}.")}
        for name in NAMES
    }
    write(base / "unet", configs["unet"], {k: v for k, v in own["unet"].items() if not is_motion_key(k)})
    write(released / "appearance_encoder", configs["appearance_encoder"], own["appearance_encoder"])
    write(released / "densepose_controlnet", configs["controlnet"], own["controlnet"])
    temporal = {f"module.unet.{k}": v for k, v in own["unet"].items() if is_motion_key(k)}
    (released / TEMPORAL).parent.mkdir()
    torch.save({"state_dict": temporal}, released / TEMPORAL)
    vae().save_pretrained(root / "vae")
    write_text_encoder(base)
    return base, released, root / "vae"


def write_text_encoder(base: Path) -> None:
    config = CLIPTextConfig(
        vocab_size=16,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=7,
        bos_token_id=0,
        eos_token_id=1,
    )
    CLIPTextModel(config).save_pretrained(base / "text_encoder")
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(vocabulary, [], unk_token="<|endoftext|>")),
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )
    tokenizer.save_pretrained(base / "tokenizer")
    # What Stable Diffusion's folder has.
    (base / "tokenizer" / "vocab.json").write_text(json.dumps(vocabulary))
    (base / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")


def test_released_folders_make_the_recorded_networks_and_the_empty_prompt(folders) -> None:
    base, released, vae_folder = folders
    pipe = MagicAnimatePipeline.from_original(base, released, vae=vae_folder)
    for name, network in modules().items():
        own = pipe.components[name].state_dict()
        assert own.keys() == network.state_dict().keys()
        assert all(torch.equal(own[key], value) for key, value in network.state_dict().items())
    assert pipe.prompt_embedding.embedding.shape == (1, 7, 32)
    assert pipe.prompt_embedding.embedding.abs().max() > 0
    assert "text_encoder" not in pipe.components
    assert pipe.unet.config.residual_norms == "clip"


def test_a_pipeline_survives_being_saved(folders, tmp_path: Path) -> None:
    base, released, vae_folder = folders
    pipe = load_pipeline(base, checkpoint=released, vae=vae_folder, device="cpu")
    pipe.save_pretrained(tmp_path / "model")
    again = load_pipeline(tmp_path / "model", device="cpu")
    assert isinstance(again, MagicAnimatePipeline)
    for name in ("unet", "appearance_encoder", "controlnet", "prompt_embedding", "vae"):
        before, after = pipe.components[name].state_dict(), again.components[name].state_dict()
        assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_temporal_attention_that_does_not_load_is_an_error(folders, tmp_path: Path) -> None:
    base, released, vae_folder = folders
    broken = tmp_path / "broken"
    (broken / TEMPORAL).parent.mkdir(parents=True)
    for part in ("appearance_encoder", "densepose_controlnet"):
        (broken / part).symlink_to(released / part)
    content = torch.load(released / TEMPORAL, weights_only=True)["state_dict"]
    torch.save(
        {key.replace("motion_modules", "motions"): value for key, value in content.items()}, broken / TEMPORAL
    )
    with pytest.raises(WeightsError, match="holds no temporal attention"):
        MagicAnimatePipeline.from_original(base, broken, vae=vae_folder)
    gone = next(key for key in content if key.endswith("proj_in.weight"))
    torch.save({key: value for key, value in content.items() if key != gone}, broken / TEMPORAL)
    with pytest.raises(WeightsError, match=r"missing \(1\)"):
        MagicAnimatePipeline.from_original(base, broken, vae=vae_folder)
    torch.save({**content, "module.unet.something.weight": torch.zeros(1)}, broken / TEMPORAL)
    with pytest.raises(WeightsError, match=r"surplus \(1\):\s+unet.something.weight"):
        MagicAnimatePipeline.from_original(base, broken, vae=vae_folder)


@pytest.mark.parametrize(
    "part", ["text_encoder", "vae", "appearance_encoder", "densepose_controlnet", "unet"]
)
def test_every_part_of_base_and_released_folder_loads_strictly(folders, tmp_path: Path, part: str) -> None:
    copies = [Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in folders]
    base, released, vae_folder = copies
    folder = next(place for place in (base / part, released / part, vae_folder) if place.is_dir())
    (file,) = folder.glob("*.safetensors")
    shutil.copy(file, folder / "other.safetensors")
    state = load_file(file)
    del state[sorted(state)[-1]]
    file.unlink()
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"missing \(1\)"):
        MagicAnimatePipeline.from_original(base, released, vae=vae_folder)


def test_what_is_not_there_is_named(folders, tmp_path: Path) -> None:
    base, released, _ = folders
    with pytest.raises(SourceError, match=r"densepose_controlnet/config\.json"):
        MagicAnimatePipeline.from_original(base, tmp_path)
    with pytest.raises(SourceError, match=r"vae/config\.json"):
        MagicAnimatePipeline.from_original(base, released)


def test_temporal_attention_goes_back_to_its_released_keys(folders) -> None:
    _, released, _ = folders
    exported = released_temporal(modules()["unet"])
    content = torch.load(released / TEMPORAL, weights_only=True)["state_dict"]
    assert exported.keys() == {key.removeprefix("module.unet.") for key in content}
    assert all(
        torch.equal(exported[key], content[f"module.unet.{key}"].to(exported[key])) for key in exported
    )
    assert read_temporal(released / TEMPORAL).keys() == to_diffusers(exported, source="").keys()
