"""Damage that once ended in a raw error or passed as whole, each in its smallest form."""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mimic.config import ConfigError
from mimic.config.loading import read_yaml, split_override
from mimic.families.registry import find_family, load_pipeline
from mimic.metrics.features import is_torchscript
from mimic.video import PictureError, VideoError, probe, read_image
from mimic.weights.errors import SourceError
from mimic.weights.sources import resolve_checkpoint
from mimic.weights.strict import WeightsError, read_state
from pose import PoseError
from tests.robustness.parsers import PARSERS, samples


@pytest.mark.parametrize("value", ["!!timestamp 99", "!!int ''", "!!float ''", "!!bool x"])
def test_values_that_yaml_cannot_make_are_told(tmp_path: Path, value: str) -> None:
    (tmp_path / "a.yaml").write_text(f"seed: {value}\n")
    with pytest.raises(ConfigError, match=r"a\.yaml is not valid YAML"):
        read_yaml(tmp_path / "a.yaml")
    assert split_override(f"seed={value}") == ("seed", value)


def test_a_damaged_avif_is_told(tmp_path: Path) -> None:
    packed = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).save(packed, "avif")
    content = packed.getvalue()
    for start in range(len(content) // 2, len(content) - 64, 16):
        (tmp_path / "a.avif").write_bytes(content[:start] + b"\xff" * 64 + content[start + 64 :])
        with contextlib.suppress(PictureError):  # whatever the decoder stumbles over
            assert read_image(tmp_path / "a.avif").shape == (24, 20, 3)


@pytest.mark.parametrize(
    "content", [b"II*\0", b"MM\0*\0\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff"]
)
def test_the_beginning_of_a_tiff_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(PictureError, match="is not a picture that can be read"):
        read_image(tmp_path / "a.tif")


def test_a_rate_that_no_clip_has_is_told(tmp_path: Path) -> None:
    (sample,) = (path for path in samples("videos", tmp_path) if path.name == "avi")
    content = bytearray((sample / "a.avi").read_bytes())
    at = content.index(b"strh") + 8 + 20  # scale and rate of the film
    content[at : at + 8] = (1).to_bytes(4, "little") + (50_000).to_bytes(4, "little")
    (sample / "a.avi").write_bytes(content)
    with pytest.raises(VideoError, match=r"states \d+ frames a second; expected at most 1000"):
        probe(sample / "a.avi")


def test_an_animation_of_one_frame_has_no_rate_of_its_clock(tmp_path: Path) -> None:
    pictures = [Image.fromarray(np.full((24, 32, 3), 60 * n, np.uint8)) for n in range(2)]
    pictures[0].save(tmp_path / "a.png", save_all=True, append_images=pictures[1:], duration=50)
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(content[: content.rindex(b"fcTL") - 4])
    assert probe(tmp_path / "b.png").fps <= 1000


def _odd_states() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    return {
        "sparse": torch.eye(3).to_sparse(), "quantised": quantised, "meta": torch.empty(3, device="meta")
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["sparse", "quantised", "meta"])
def test_tensors_that_are_not_plain_numbers_are_refused(tmp_path: Path, kind: str) -> None:
    torch.save({"a": torch.ones(2), "b": _odd_states()[kind]}, tmp_path / "a.pth")
    with pytest.raises(
        WeightsError, match=r"sparse or quantised tensors, or tensors without values: b\. Save"
    ):
        read_state(tmp_path / "a.pth")


def test_tensors_without_a_name_are_refused(tmp_path: Path) -> None:
    torch.save({1: torch.ones(2)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"tensors whose keys are no names: 1; expected"):
        read_state(tmp_path / "a.pth")


def test_an_old_checkpoint_with_a_hole_is_told(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "a.pth").read_bytes()
    for start in range(0, len(content) - 8, 3):
        (tmp_path / "b.pth").write_bytes(content[:start] + content[start + 8 :])
        with contextlib.suppress(WeightsError):  # whatever the unpickler stumbles over
            read_state(tmp_path / "b.pth")


def test_torchscript_with_odd_code_is_told(tmp_path: Path) -> None:
    (sample,) = (path for path in samples("networks", tmp_path) if path.name == "features")
    with zipfile.ZipFile(sample / "a.pt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(sample / "a.pt", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, b"\x80\xad" * 99 if name.endswith(".py") else content)
    with pytest.raises(WeightsError, match="not a TorchScript file that can be read"):
        PARSERS["networks"].read(sample)


@pytest.mark.parametrize("suffix", [".py", "data.pkl"])
def test_torchscript_whose_content_is_not_as_it_was_written_is_not_run(tmp_path: Path, suffix: str) -> None:
    (sample,) = (path for path in samples("networks", tmp_path) if path.name == "features")
    with zipfile.ZipFile(sample / "a.pt") as archive:
        member = next(each for each in archive.infolist() if each.filename.endswith(suffix))
    content = bytearray((sample / "a.pt").read_bytes())
    head = content[member.header_offset + 26 : member.header_offset + 30]  # lengths of the name and of more
    start = (
        member.header_offset + 30 + int.from_bytes(head[:2], "little") + int.from_bytes(head[2:], "little")
    )
    content[start + member.compress_size // 2] ^= 1
    (sample / "a.pt").write_bytes(content)
    with pytest.raises(WeightsError, match="not a TorchScript file that can be read"):
        PARSERS["networks"].read(sample)


def test_a_damaged_network_of_onnx_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.onnx").write_bytes(b"\xff" * 300)
    with pytest.raises(PoseError, match=r"a\.onnx cannot be read as an ONNX network"):
        PARSERS["networks"].read(tmp_path)
    assert capfd.readouterr().out == ""


def test_an_archive_whose_list_is_damaged_is_no_torchscript(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/code/a.py", "")
    content = bytearray((tmp_path / "a.pt").read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 28 : at + 32] = b"\0\0\x0b\0"  # its name is read as an extra field
    (tmp_path / "a.pt").write_bytes(content)
    assert not is_torchscript(tmp_path / "a.pt")


def test_an_archive_on_several_disks_is_no_torchscript(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/code/a.py", "")
    content = (tmp_path / "a.pt").read_bytes()
    at = content.index(b"PK\x05\x06")
    disks = b"PK\x06\x07" + struct.pack("<LQL", 0, 0, 2)
    (tmp_path / "a.pt").write_bytes(content[:at] + disks + content[at:])
    assert not is_torchscript(tmp_path / "a.pt")


def test_an_archive_of_a_later_zip_is_no_torchscript(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/code/a.py", "")
    content = bytearray((tmp_path / "a.pt").read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 158  # version needed to read it
    (tmp_path / "a.pt").write_bytes(content)
    assert not is_torchscript(tmp_path / "a.pt")


def test_a_gif_that_says_it_is_huge_takes_no_memory(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="a module of POSIX")
    head = b"GIF89a" + struct.pack("<HHBBB", 6176, 33024, 0, 0, 0)
    frame = b"\x21\xf9\4\0\5\0\0\0\x2c" + struct.pack("<HHHHB", 0, 0, 9, 9, 0)
    (tmp_path / "a.gif").write_bytes(head + frame)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(VideoError, match="6176x33024 pixels; expected sides of at most"):
        probe(tmp_path / "a.gif")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


CONFIGS = {
    "model_index.json": [
        '{"_class_name": ', "[]", '{"unet": ["mimic"]}', '{"unet": ["mimic", 3]}', '{"unet": [null, "x"]}',
    ],
    "scheduler/scheduler_config.json": ["{", '{"beta_start": []}', '{"num_train_timesteps": "many"}'],
    "vae/config.json": ["[1", '{"latent_channels": -2}', '{"block_out_channels": "wide"}'],
    "unet/config.json": [
        "{", "[]", '{"block_out_channels": "wide"}', '{"num_attention_heads": -1}', '{"in_channels": null}',
    ],
    "image_encoder/config.json": ["{", '{"hidden_size": "wide"}'],
    "pose_net/config.json": ['{"channels": [0.5, 1]}'],
    "feature_extractor/preprocessor_config.json": ["{", "\x85"],
    "mimic.json": ["[]", '{"generation_defaults": 3}', "{"],
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_folder_with_a_config_of_wrong_values_is_named(tmp_path: Path, name: str) -> None:
    (model,) = samples("models", tmp_path)
    for content in CONFIGS[name]:
        whole = json.loads((model / name).read_text()) if content[:1] == "{" and content[-1:] == "}" else None
        before = (model / name).read_bytes()
        changed = json.dumps(whole | json.loads(content)) if whole is not None else content
        (model / name).write_text(changed, encoding="latin-1")
        with pytest.raises((SourceError, WeightsError), match=name.rpartition("/")[0] or name):
            find_family(model)
            load_pipeline(model, device="cpu")
        (model / name).write_bytes(before)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("unet", "transformer_layers_per_block"), ("unet", "layers_per_block"), ("vae", "layers_per_block"),
        ("image_encoder", "num_hidden_layers"),
    ],
)  # fmt: skip
def test_layers_without_end_are_not_made(tmp_path: Path, part: str, name: str) -> None:
    (model,) = samples("models", tmp_path)
    config = model / part / "config.json"
    content = json.loads(config.read_text())
    content.get("vision_config", content)[name] = 2**63
    config.write_text(json.dumps(content))
    with pytest.raises(SourceError, match=f"{part}/config.json cannot be used"):
        load_pipeline(model, device="cpu")


def test_a_model_without_the_folder_of_a_part_is_told_without_asking_the_hub(tmp_path: Path) -> None:
    (model,) = samples("models", tmp_path)
    (model / "scheduler").rename(model / "other")
    with pytest.raises(SourceError, match=r"not found: .*scheduler\. Copy the model again"):
        load_pipeline(model, device="cpu")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_in_place_of_settings_or_weights_is_named_without_waiting(tmp_path: Path) -> None:
    for name in ("a.yaml", "a.pth"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(ConfigError, match=r"a\.yaml is a named pipe; expected a YAML file"):
        read_yaml(tmp_path / "a.yaml")
    with pytest.raises(SourceError, match=r"a\.pth is a named pipe; expected a \.pth"):
        resolve_checkpoint(tmp_path / "a.pth")


def test_a_shape_that_torch_does_not_have_is_told(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "U8", "shape": [0, 2**63], "data_offsets": [0, 0]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(WeightsError, match=r"not a whole safetensors file \(.+\)"):
        read_state(tmp_path / "a.safetensors")
