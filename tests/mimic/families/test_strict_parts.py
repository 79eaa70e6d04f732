"""Every network of every family's model folder loads completely, or what is wrong is listed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mimic import load_pipeline
from mimic.families.base import AnimationPipeline
from mimic.families.registry import load_task, trained_families
from mimic.weights.errors import SourceError
from mimic.weights.strict import WeightsError


@pytest.fixture(params=trained_families(), scope="module")
def saved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[AnimationPipeline, Path]:
    pipe = load_task(request.param).tiny_pipeline(height=16, width=16, seed=0)
    folder = tmp_path_factory.mktemp(request.param)
    pipe.save_pretrained(folder)
    return pipe, folder


def networks(pipe: AnimationPipeline) -> list[str]:
    return [name for name, part in pipe.components.items() if isinstance(part, nn.Module)]


def state_of(part: Path) -> tuple[Path, dict[str, Tensor]]:
    (file,) = part.glob("*.safetensors")
    return file, load_file(file)


def test_all_networks_are_loaded_strictly(saved: tuple[AnimationPipeline, Path]) -> None:
    pipe, folder = saved
    for name in networks(pipe):
        file, state = state_of(folder / name)
        original = file.read_bytes()
        lost = sorted(state)[-1]
        save_file({key: state[key] for key in state if key != lost}, file, metadata={"format": "pt"})
        with pytest.raises(WeightsError) as caught:
            load_pipeline(folder, device="cpu")
        file.unlink()
        file.write_bytes(original)
        assert str(folder / name) in str(caught.value)
        assert caught.value.mismatch is not None
        assert len(caught.value.mismatch.missing) == 1


def test_folders_as_they_lie_on_disks_load(saved: tuple[AnimationPipeline, Path], tmp_path: Path) -> None:
    """Each network another way: a backup beside it, half precision only, as shards of `torch.save`."""
    pipe, original = saved
    folder = tmp_path / "model"
    shutil.copytree(original, folder)
    for number, name in enumerate(networks(pipe)):
        file, state = state_of(folder / name)
        if number % 3 == 0:
            (folder / name / f"{file.stem} (copy).safetensors").write_bytes(b"a backup")
            (folder / name / "old.bin").write_bytes(b"another")
        elif number % 3 == 1:
            file.rename(file.with_name(f"{file.stem}.fp16.safetensors"))
        else:
            stem = "pytorch_model" if file.stem == "model" else file.stem
            file.unlink()
            torch.save(state, folder / name / f"{stem}-00001-of-00001.bin")
            index = {"weight_map": dict.fromkeys(state, f"{stem}-00001-of-00001.bin")}
            (folder / name / f"{stem}.bin.index.json").write_text(json.dumps(index))
    loaded = load_pipeline(folder, device="cpu")
    for name in networks(pipe):
        expected, found = pipe.components[name].state_dict(), loaded.components[name].state_dict()
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)
        assert not loaded.components[name].training


def test_a_part_that_is_given_is_not_read(saved: tuple[AnimationPipeline, Path], tmp_path: Path) -> None:
    pipe, original = saved
    folder = tmp_path / "model"
    shutil.copytree(original, folder)
    state_of(folder / "vae")[0].unlink()
    loaded = type(pipe).from_pretrained(folder, vae=pipe.vae)
    assert loaded.vae is pipe.vae
    with pytest.raises(SourceError, match=r"vae lacks diffusion_pytorch_model\.safetensors"):
        type(pipe).from_pretrained(folder)
