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
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from mimic.cli.main import main
from mimic.config import ConfigError
from mimic.config.loading import read_yaml, split_override
from mimic.data.cache import CacheError
from mimic.data.index import DataError, read_index
from mimic.data.prepare.notes import Notes
from mimic.data.prepare.sources import Source
from mimic.families.registry import find_family, load_pipeline
from mimic.generation.unfinished import Unfinished, finish_interrupted
from mimic.locks import LOCK_FILE, FolderInUseError, locked_folder
from mimic.metrics.features import is_torchscript
from mimic.results import JOURNAL, ResultFiles
from mimic.training.checkpoints import newest_whole
from mimic.training.logs import cut_log
from mimic.training.main import settings_of
from mimic.training.report import validations, write_report
from mimic.training.state import StateError, checkpoints, load_facts
from mimic.ui.errors import StudioError
from mimic.ui.results import finished_results
from mimic.video import PictureError, VideoError, probe, read_image
from mimic.weights.errors import SourceError
from mimic.weights.parts import require_parts
from mimic.weights.sources import resolve_checkpoint
from mimic.weights.strict import WeightsError, load_strictly, read_state
from pose import PoseError, PoseSequence
from pose.adjust import Adjustment, adjust_pose
from tests.pose.figures import clip
from tests.robustness.messages import fault_of
from tests.robustness.parsers import PARSERS, VERSIONS, samples


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


@pytest.mark.parametrize("value", ["[" * 3000 + "]" * 3000, "1e999", "NaN", "null", f"1{'0' * 400}"])
def test_a_line_of_the_log_without_a_step_is_left_out(tmp_path: Path, value: str) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"step": ' + value + "}\n")
    assert cut_log(tmp_path / "log.jsonl", 5) == {"step": 1}
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1}\n'


@pytest.mark.parametrize(
    "change",
    [
        {"video": None}, {"video": "../b.mp4"}, {"video": ""}, {"side_by_side": 3}, {"former": "1"},
        {"former": 0}, {"folder": 1}, {"folder": "."}, {"folder": "/"}, {"folder": "x" * 9999},
        {"folder": "../../nowhere"}, {"video": "b.mp4"}, {"video": "x" * 300}, {"video": "a\0"},
        {"side_by_side": "\ud800"},
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


ODD = "\x1b[2J\x07\u202e" + "x" * 10_000


def _say_unknown_image(folder: Path) -> None:
    person = {"image_id": ODD, "keypoints": [1.0] * 51}
    content = {"images": [{"id": 1, "height": 8, "width": 8}], "annotations": [person]}
    (folder / "a.json").write_text(json.dumps(content))
    PoseSequence.load(folder / "a.json")


def _say_size(folder: Path) -> None:
    frames = [{"people": [], "canvas_height": 8, "canvas_width": width} for width in (8, ODD)]
    (folder / "a.json").write_text(json.dumps(frames))
    PoseSequence.load(folder / "a.json")


def _say_format(folder: Path) -> None:
    np.savez(folder / "a.npz", header=np.array(json.dumps({"format": "mimic-pose", "version": 10**4000})))
    PoseSequence.load(folder / "a.npz")


def _say_surplus_weight(folder: Path) -> None:
    save_file({ODD: torch.zeros(1)}, folder / "a.safetensors")
    load_strictly({"": torch.nn.Module()}, read_state(folder / "a.safetensors"), source=folder)


def _say_entry_without_tensor(folder: Path) -> None:
    torch.save({ODD: 3, "b": torch.zeros(1)}, folder / "a.pth")
    read_state(folder / "a.pth")


def _say_class(folder: Path) -> None:
    (folder / "model_index.json").write_text(json.dumps({"_class_name": ODD}))
    find_family(folder)


def _say_clip(folder: Path) -> None:
    (folder / "index.jsonl").write_text(json.dumps({"clip": ODD}) + "\n")
    (folder / "prepare.json").write_text(json.dumps({"videos": ".", "videos_from_here": "."}))
    read_index(folder)


def _say_groups(folder: Path) -> None:
    (folder / "facts.json").write_text(json.dumps({"step": 1, "groups": {ODD: 1}}))
    load_facts(folder)


def _say_setting(folder: Path) -> None:
    (folder / "a.yaml").write_text(yaml.safe_dump({"family": "mimicmotion", ODD: 1}))
    settings_of(folder / "a.yaml")


def _say_path(folder: Path) -> None:
    (folder / "a.yaml").write_text(yaml.safe_dump({"test_case": [{f"{ODD}_path": "a\nb"}]}))
    read_yaml(folder / "a.yaml")


def _say_part(folder: Path) -> None:
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "x", ODD: ["diffusers", "x"]}))
    require_parts(folder, given={})


def _say_trainer(folder: Path) -> None:
    (folder / "a.yaml").write_text("trainer: [3]\n")
    settings_of(folder / "a.yaml")


def _say_adjustment(folder: Path) -> None:
    Adjustment.from_dict({"limbs": {ODD: 1.0}})


def _say_huge_adjustment(folder: Path) -> None:
    Adjustment.from_dict({"scale": 10**5000})


def _say_huge_person(folder: Path) -> None:
    adjust_pose(clip(), Adjustment.from_dict({"person": 10**5000}))


@pytest.mark.parametrize("say", [value for name, value in globals().items() if name.startswith("_say_")])
def test_what_a_file_holds_is_shown_short_and_without_odd_letters(tmp_path: Path, say: Any) -> None:
    kinds = (PoseError, WeightsError, SourceError, DataError, StateError, ConfigError)
    with pytest.raises(kinds) as raised:
        say(tmp_path)
    assert fault_of(str(raised.value)) is None


@pytest.mark.parametrize(
    "holder", ["[" * 3000 + "]" * 3000, {"work": ODD, "pid": 1, "host": "a", "since": "b"}]
)
def test_a_damaged_note_of_who_holds_a_folder_is_no_obstacle(tmp_path: Path, holder: Any) -> None:
    with locked_folder(tmp_path, work="a test", say=print):
        (tmp_path / LOCK_FILE).write_text(holder if isinstance(holder, str) else json.dumps(holder))
        with pytest.raises(FolderInUseError) as raised, locked_folder(tmp_path, work="a test", say=print):
            pass
    assert fault_of(str(raised.value)) is None


def test_names_of_files_do_not_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pose", str(tmp_path / "no\x1b[2J.mp4"), "-o", str(tmp_path / "a.npz")]) != 0
    said = capsys.readouterr().err
    assert "no\\x1b[2J.mp4" in said
    assert fault_of(said) is None


def test_a_shape_that_torch_does_not_have_is_told(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "U8", "shape": [0, 2**63], "data_offsets": [0, 0]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(WeightsError, match=r"not a whole safetensors file \(.+\)"):
        read_state(tmp_path / "a.safetensors")


def _training(folder: Path, name: str = "now") -> Path:
    return next(path for path in samples("trainings", folder) if path.name == name)


@pytest.mark.parametrize("group", ["average", "optimiser", "weights"])
def test_a_checkpoint_that_is_not_as_it_was_written_is_not_resumed_from(tmp_path: Path, group: str) -> None:
    path = _training(tmp_path) / "checkpoint-3" / f"{group}.safetensors"
    content = bytearray(path.read_bytes())
    content[-2] ^= 1  # another finite number
    path.write_bytes(content)
    (stored, _, progress), ((damaged, error),) = newest_whole(checkpoints(path.parent.parent))
    assert (progress.step, stored.checkpoint.name, damaged.name) == (2, "checkpoint-2", "checkpoint-3")
    assert f"{group}.safetensors is not as it was written" in str(error)


def test_weights_that_are_not_finite_are_not_resumed_from(tmp_path: Path) -> None:
    path = _training(tmp_path, "first") / "checkpoint-3" / "weights.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, path)
    (_, _, progress), ((_, error),) = newest_whole(checkpoints(path.parent.parent))
    assert progress.step == 2
    assert "has NaN or infinite values" in str(error)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("progress", {"skipped": 10**30}), ("progress", {"skipped_in_row": -1}),
        ("progress", {"best": {"step": 2, "value": float("nan")}}),
        ("progress", {"best": {"step": 9, "value": 1.0}}),
        ("scaler", {"scale": "x"}), ("scaler", {"_growth_tracker": None}),
        ("hashes", {"weights.safetensors": 3}), ("hashes", {"weights.safetensors": ""}),
    ],
)  # fmt: skip
def test_facts_that_no_training_has_are_not_resumed_from(
    tmp_path: Path, name: str, change: dict[str, Any]
) -> None:
    path = _training(tmp_path) / "checkpoint-3" / "facts.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, name: {**facts[name], **change}}))
    (_, _, progress), _ = newest_whole(checkpoints(path.parent.parent))
    assert progress.step == 2


def test_damaged_lines_of_a_log_are_left_out_of_its_report(tmp_path: Path) -> None:
    training = _training(tmp_path)
    with (training / "log.jsonl").open("ab") as log:
        log.write(b'{"step": %d, "validation": {"psnr": 1.0}}\n' % (10**400))
        log.write(b'{"step": 4, "validation": {"psnr": "many", "ssim": NaN, "l1": 0.1}}\n\xff\n[3]\n')
        log.write(
            b'{"step": "5", "validation": {}}\n{"step": 6, "loss": [], "levels": {"a": "b"}}\n{"step": 7, '
        )
    assert validations(training, last_step=9) == {
        0: {"psnr": 9.1},
        3: {"psnr": 11.7, "ssim": 0.3},
        4: {"l1": 0.1},
    }
    assert write_report(training, best_by="psnr", best_step=3, videos="validation") is not None


@pytest.mark.parametrize("name", ["denoising", "frames_000000"])
def test_a_state_that_is_not_as_it_was_written_is_not_used(tmp_path: Path, name: str) -> None:
    begun = next(path for path in samples("renders", tmp_path) if path.name == "begun")
    path = next(begun.rglob(f"{name}.safetensors"))
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    state = Unfinished(ResultFiles(begun / "a.mp4"), "me", versions=VERSIONS)
    assert (state.steps.num_saved if name == "denoising" else state.frames.num_frames) == 0


@pytest.mark.parametrize("change", ["noise", "another tensor", "folder"])
def test_damaged_latents_are_told(tmp_path: Path, change: str) -> None:
    (sample,) = samples("caches", tmp_path)
    path = next(sample.rglob("*.safetensors"))
    content = path.read_bytes()
    if change == "noise":
        path.write_bytes(content[:-150] + b"\0\0" + content[-148:])
    elif change == "another tensor":
        path.write_bytes(content.replace(b'"latents"', b'"latentz"'))
    else:
        path.unlink()
        path.mkdir()
    with pytest.raises(CacheError, match=r"is damaged.*remove it and fill the cache again"):
        PARSERS["caches"].read(sample)


@pytest.mark.parametrize(
    "change",
    [
        {"parts": [[0, float("inf")]]}, {"parts": [[5, 3]]}, {"fps": "x"}, {"fps": float("nan")},
        {"width": -1}, {"video": None}, {"rejected": [{"video": [], "frames": None, "fps": None}]},
    ],
)  # fmt: skip
def test_a_damaged_survey_is_made_again(tmp_path: Path, change: dict[str, Any]) -> None:
    (sample,) = samples("prepared", tmp_path)
    note = next(path for path in sample.rglob("video.json") if json.loads(path.read_text())["parts"])
    content = json.loads(note.read_text())
    source = Source(content["video"], content["num_bytes"], content["changed_ns"])
    assert Notes(sample).survey(source) is not None
    note.write_text(json.dumps({**content, **change}))
    assert Notes(sample).survey(source) is None


@pytest.mark.parametrize(
    "change", [{"seconds": 10**400}, {"output": {"width": "x" * 9999}}, {"verdict": [3]}]
)
def test_a_damaged_report_of_a_result_is_told(tmp_path: Path, change: dict[str, Any]) -> None:
    (sample,) = samples("results", tmp_path)
    path = next(sample.rglob("result.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(StudioError, match=r"missing or damaged \(result\.json\)"):
        PARSERS["results"].read(sample)


def test_a_report_of_countless_sentences_shows_a_few(tmp_path: Path) -> None:
    (sample,) = samples("results", tmp_path)
    path = next(sample.rglob("result.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "verdict": {"sentences": ["x" * 99] * 9999}}))
    (result,) = finished_results(sample)
    assert fault_of(result.words()) is None
