"""Damage that once ended in a raw error or passed as whole, each in its smallest form."""

from __future__ import annotations

import contextlib
import io
import json
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from mimic.config import ConfigError
from mimic.config.loading import read_yaml, split_override
from mimic.families.registry import find_family, load_pipeline
from mimic.generation.unfinished import Unfinished, finish_interrupted
from mimic.metrics.features import is_torchscript
from mimic.results import JOURNAL, ResultFiles
from mimic.training.logs import cut_log
from mimic.video import PictureError, probe, read_image
from mimic.weights.sources import SourceError, resolve_checkpoint
from mimic.weights.strict import WeightsError, read_state
from tests.robustness.parsers import VERSIONS, samples


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


def test_an_archive_whose_list_is_damaged_is_no_torchscript(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/code/a.py", "")
    content = bytearray((tmp_path / "a.pt").read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 28 : at + 32] = b"\0\0\x0b\0"  # its name is read as an extra field
    (tmp_path / "a.pt").write_bytes(content)
    assert not is_torchscript(tmp_path / "a.pt")


@pytest.mark.parametrize("value", ["[" * 3000 + "]" * 3000, "1e999", "NaN", "null"])
def test_a_line_of_the_log_without_a_step_is_left_out(tmp_path: Path, value: str) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"step": ' + value + "}\n")
    assert cut_log(tmp_path / "log.jsonl", 5) == {"step": 1}
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1}\n'


@pytest.mark.parametrize(
    "change",
    [
        {"video": None}, {"video": "../b.mp4"}, {"video": ""}, {"side_by_side": 3}, {"former": "1"},
        {"former": 0}, {"folder": 1},
    ],
)  # fmt: skip
def test_a_note_of_placing_that_is_not_ours_moves_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    placing = next(path for path in samples("renders", tmp_path) if path.name == "placing")
    note = next(placing.rglob(JOURNAL))
    note.write_text(json.dumps({**json.loads(note.read_text()), **change}))
    finish_interrupted(ResultFiles(placing / "a.mp4"))
    assert [path.name for path in placing.iterdir()] == ["a.unfinished"]


@pytest.mark.parametrize(
    ("name", "key", "values"),
    [
        ("denoising", "num_done", [None, "x", "-1", "0"]),
        ("denoising", "num_steps", [None, "x", "0"]),
        (
            "denoising",
            "scheduler",
            [None, "x", "3", "[[]]", '{"a": 3}', '{"a": {"tensor": "b"}}', "[" * 9999],
        ),
        ("frames_000000", "num_chunks", [None, "x", "-1", "0"]),
    ],
)
def test_a_state_whose_notes_are_damaged_is_not_used(
    tmp_path: Path, name: str, key: str, values: list[str | None]
) -> None:
    begun = next(path for path in samples("renders", tmp_path) if path.name == "begun")
    path = next(begun.rglob(f"{name}.safetensors"))
    content, tensors = path.read_bytes(), load_file(path)
    notes = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    for value in values:
        changed = {**notes, key: value} if value is not None else {k: v for k, v in notes.items() if k != key}
        save_file(tensors, path, metadata=changed)
        state = Unfinished(ResultFiles(begun / "a.mp4"), "me", versions=VERSIONS)
        assert (state.steps.num_saved if name == "denoising" else state.frames.num_frames) == 0
        state.announce()


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
