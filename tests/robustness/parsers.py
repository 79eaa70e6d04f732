"""Everything that reads a user's files, or our own of an earlier run, with whole samples of what it reads."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mimic.compare.cells import Cell, finished_row, write_record
from mimic.compare.inputs import ClipInputs
from mimic.compare.settings import VariantSettings, load_compare_config
from mimic.config import load_inference_config
from mimic.config.loading import shipped_configs
from mimic.data.cache import CutClips, EncodingCache
from mimic.data.crops import Geometry
from mimic.data.index import REJECTED, read_index, read_rows
from mimic.data.prepare.notes import Notes
from mimic.data.prepare.sources import Source
from mimic.families.registry import find_family, load_pipeline
from mimic.files import write_json
from mimic.generation.step_state import StepState
from mimic.generation.unfinished import Unfinished, finish_interrupted
from mimic.locks import FolderInUseError, locked_folder
from mimic.metrics.features import FeatureNetwork
from mimic.metrics.seams import layout_beside
from mimic.models.densepose_model import DensePoseModel
from mimic.results import JOURNAL, ResultFiles, hash_of_video, read_result
from mimic.training.checkpoints import differences, newest_whole
from mimic.training.logs import cut_log
from mimic.training.main import settings_of
from mimic.training.report import validations, write_report
from mimic.training.saved import AVERAGE, OPTIMISER, WEIGHTS
from mimic.training.saving import Saving
from mimic.training.state import checkpoints
from mimic.ui.results import finished_results
from mimic.weights.lora import read_lora
from mimic.weights.metadata import read_facts
from mimic.weights.strict import read_state
from pose.session import Network
from tests.pose.figures import clip
from tests.robustness.media import (
    Parser,
    adjustments,
    first,
    pictures,
    place,
    poses,
    read_adjustment,
    read_picture,
    read_poses,
    read_video,
    videos,
)
from tests.robustness.messages import HEARD
from tests.tiny import GOLDENS, random_pipeline

ALL_GOLDENS = GOLDENS.parent


def _configs(folder: Path) -> None:
    for name, path in shipped_configs().items():
        if "accelerate" not in name:
            shutil.copy(path, place(folder, name.replace("/", "-")) / f"{name.split('/')[0]}.yaml")


def _read_config(folder: Path) -> None:
    path = first(folder)
    if path.stem == "train":
        settings_of(path, ["max_steps=3"])
    elif path.stem == "compare":
        load_compare_config(path, ["seeds=[1]"])
    else:
        load_inference_config(path, ["seed=3", "test_case.0.fps=7"])


def _weights(folder: Path) -> None:
    state = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.zeros(3), "n": torch.tensor(7)}
    save_file(state, place(folder, "safetensors") / "a.safetensors", metadata={"format": "pt", "steps": "3"})
    torch.save({"state_dict": state}, place(folder, "pth") / "a.pth")
    torch.save(state, place(folder, "old") / "a.ckpt", _use_new_zipfile_serialization=False)
    odd: dict[str, Any] = {
        "numbered": {1: torch.zeros(2)}, "nothing": {}, "list": [torch.zeros(2)],
        "nested": {"a": {"b": torch.zeros(2)}},
        "sparse": {"a": torch.eye(3).to_sparse()}, "complex": {"a": torch.zeros(2, dtype=torch.complex64)},
        "quantised": {"a": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)},
        "meta": {"a": torch.empty(3, device="meta")}, "tensor": torch.zeros(3),
        "parameter": {"a": nn.Parameter(torch.ones(2))},
    }  # fmt: skip
    for name, content in odd.items():
        torch.save(content, place(folder, name) / "a.pth")


def _read_weights(folder: Path) -> None:
    path = first(folder)
    state = read_state(path)
    assert all(isinstance(key, str) for key in state)
    for tensor in state.values():
        assert torch.isfinite(tensor.to("cpu").to_dense()).all()
    if path.suffix == ".safetensors":
        read_facts(path)


def _loras(folder: Path) -> None:
    tensors = {
        "unet.lora_A.weight": torch.ones(2, 4), "unet.lora_B.weight": torch.ones(3, 2),
        "unet.alpha": torch.tensor(2.0),
    }  # fmt: skip
    save_file(tensors, place(folder, "lora") / "a.safetensors")


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 4))


def _read_lora(folder: Path) -> None:
    lora = read_lora(first(folder), {"unet": _Layer()})
    assert all(change.change().shape == (3, 4) for change in lora.layers.values())


def _models(folder: Path) -> None:
    pipeline = random_pipeline()
    pipeline.generation_defaults = {"num_inference_steps": 2, "tile_size": 6, "tile_overlap": 2}
    pipeline.save_pretrained(folder / "model")


def _read_model(folder: Path) -> None:
    find_family(folder)
    pipeline = load_pipeline(folder, device="cpu")
    pipeline.plan(num_frames=4, height=32, width=32)


def _networks(folder: Path) -> None:
    shutil.copy(ALL_GOLDENS / "dwpose" / "onnx" / "det_stub.onnx", place(folder, "onnx") / "a.onnx")
    module = torch.jit.trace(nn.Conv2d(3, 25, 1).eval(), torch.zeros(1, 3, 8, 8))
    torch.jit.save(module, place(folder, "densepose") / "a.torchscript")
    torch.jit.save(module, place(folder, "features") / "a.pt")


def _read_network(folder: Path) -> None:
    path = first(folder)
    if path.suffix == ".onnx":
        Network(path, device="cpu", num_threads=1)
    elif path.suffix == ".torchscript":
        DensePoseModel(path, device="cpu")(np.zeros((8, 8, 3), np.uint8))
    else:
        FeatureNetwork("fid", str(path))


def _prepared(folder: Path) -> None:
    shutil.copytree(ALL_GOLDENS / "prepared", folder / "prepared")
    place = folder / "prepared" / "videos"
    place.mkdir()
    (place / "one.mp4").write_bytes(b"")
    for line in (folder / "prepared" / "index.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        clip(num_frames=row["num_frames"]).save(folder / "prepared" / row["poses"])
    write_json(folder / "prepared" / "prepare.json", {
        **json.loads((folder / "prepared" / "prepare.json").read_text()), "videos_from_here": "videos"
    })  # fmt: skip


def _read_prepared(folder: Path) -> None:
    notes = Notes(folder)
    for golden in (ALL_GOLDENS / "prepared" / ".prepare").glob("*/video.json"):
        content = json.loads(golden.read_text())
        source = Source(content["video"], content["num_bytes"], content["changed_ns"])
        if notes.obstacle([source]):
            continue  # which a run says, and ends
        survey = notes.survey(source)
        if survey is not None:
            notes.missing_parts(source, survey)
        notes.part(source, 0)
    notes.clip_rows()
    read_rows(folder / REJECTED)
    for row in read_index(folder):
        assert row.num_frames >= 1
        assert 0 < row.fps < float("inf")
        row.load_poses()


def _made_here(group: str, step: int) -> dict[str, Tensor]:
    """The tensors of a group of a training of one weight."""
    kinds = ("exp_avg.", "exp_avg_sq.", "step.") if group == OPTIMISER else ("",)
    number = step + len(group)
    return {
        f"{kind}made.here": torch.tensor(float(number)) if kind == "step." else torch.arange(6.0) + number
        for kind in kinds
    }


def _trainings(folder: Path) -> None:
    first, now = folder / "first", folder / "now"
    shutil.copytree(ALL_GOLDENS / "training" / "first_format", first)
    settings = json.loads((first / "checkpoint-2" / "facts.json").read_text())["settings"]
    saving, groups = Saving(), (AVERAGE, OPTIMISER, WEIGHTS)
    for step in (2, 3):
        progress = {"step": step, "skipped": 0, "skipped_in_row": 0, "saved": step}
        scaler = {"scale": 2.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 9}
        facts = {
            "format": 3, "step": step, "groups": list(groups), "family": "mimicmotion",
            "tensors": {group: len(_made_here(group, step)) for group in groups},
            "progress": {**progress, "best": {"step": 2, "value": 11.7}}, "processes": 1,
            "scaler": {**scaler, "_growth_tracker": step}, "settings": settings,
            "validation": {"figures": {"psnr": 11.7}},
        }  # fmt: skip
        tensors = {group: _made_here(group, step) for group in groups}
        saving.start(now / f"checkpoint-{step}", tensors, facts=facts)
        saving.wait()
    lines: list[dict[str, Any]] = [{"step": 0, "validation": {"psnr": 9.1}}]
    lines += [{"step": step, "loss": 1.0 / step, "lr": 1e-3, "levels": {"loss_t_1": 0.5}} for step in (1, 2)]
    lines += [{"step": 3, "loss": None, "lr": 1e-3, "validation": {"psnr": 11.7, "ssim": 0.3}}]
    for made in (first, now):
        (made / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _read_training(folder: Path) -> None:
    _read_log(folder)
    (stored, facts, progress), damaged = newest_whole(checkpoints(folder))
    for _, error in damaged:
        HEARD.say(str(error))
    for line in differences(facts["settings"], {"data": {"source": "other"}, "max_steps": 3}):
        HEARD.say(line)
    assert progress.step == facts["step"] == int(stored.checkpoint.name.split("-")[1])
    for group, known in stored.groups.items():
        places = {name: torch.empty(info.size, dtype=info.properties.dtype) for name, info in known.items()}
        stored.load(group, places)
        assert all(torch.isfinite(tensor.float()).all() for tensor in places.values())
        if any(name.endswith("made.here") for name in places):
            made = _made_here(group, progress.step)
            assert places.keys() == made.keys()
            assert all(torch.equal(places[name], made[name]) for name in made), "weights of nobody"
    assert 0 <= progress.skipped_in_row <= progress.skipped <= progress.step
    if facts.get("scaler"):
        torch.amp.GradScaler("cpu").load_state_dict(facts["scaler"])
    last = cut_log(folder / "log.jsonl", progress.step)
    assert isinstance(last, dict)


def _read_log(folder: Path) -> None:
    for figures in validations(folder, last_step=3).values():
        assert all(math.isfinite(value) for value in figures.values())
    page = write_report(folder, best_by="psnr", best_step=3, videos="validation")
    if page is not None:
        assert page.stat().st_size < MOST_OF_A_PAGE
        page.unlink()


def _cell(folder: Path) -> Cell:
    return Cell(VariantSettings(name="one", model="m"), ClipInputs("dancer", folder, 3, 8.0), 0, folder)


def _cells(folder: Path) -> None:
    cell = _cell(place(folder, "cell"))
    cell.video.write_bytes(b"a video")
    write_record(cell, {"variant": "one", "metrics": {"l1": 0.1}}, {"settings": {"seed": 0}, "model": None})


def _read_cell(folder: Path) -> None:
    row = finished_row(_cell(folder), {"settings": {"seed": 0}, "model": None}, say=HEARD.say)
    assert row in (None, {"variant": "one", "metrics": {"l1": 0.1}})


REFUSED = frozenset({"numbered", "list", "nested", "sparse", "quantised", "meta", "tensor"})
MOST_OF_A_PAGE = 200_000
VERSIONS = {"mimic": "0"}


def _renders(folder: Path) -> None:
    begun = place(folder, "begun")
    files = ResultFiles(begun / "a.mp4")
    state = Unfinished(files, "me", versions=VERSIONS)
    latents = torch.zeros(1, 4, 4, 8, 8)
    generator = torch.Generator().manual_seed(0)
    packed = StepState(2, 3, latents, [generator.get_state()], {"_step_index": 2, "sigmas": latents[0, 0]})
    tensors, about = packed.as_tensors()
    state.folder.mkdir(parents=True)
    save_file(tensors, state.steps.path, metadata={**about, "identity": state.identity})
    for _ in range(2):
        state.frames.keep(np.zeros((2, 8, 8, 3), np.uint8))
        state.frames.flush()
    placing = place(folder, "placing")
    staged = placing / "a.unfinished" / "0123456789ab"
    staged.mkdir(parents=True)
    (staged / "a.mp4").write_bytes(b"a video")
    output = {"file": "a.mp4", "side_by_side": None, "sha256": hash_of_video(staged / "a.mp4")}
    write_json(staged / "a.json", {"output": output, "versions": VERSIONS, "identity": "me"})
    write_json(staged / JOURNAL, {"folder": "../..", "video": "a.mp4", "side_by_side": None, "former": None})
    done = place(folder, "done")
    (done / "a.mp4").write_bytes(b"a video")
    run = {"settings": {"tile_size": 6, "tile_overlap": 2, "windows": "sliding"}, "model": {"pipeline": "x"}}
    write_json(done / "a.json", {"output": output, "versions": VERSIONS, "identity": "me", **run})


def _num_results(folder: Path) -> int:
    return sum(path.is_file() and path.read_bytes() == b"a video" for path in folder.rglob("*"))


def _read_render(folder: Path) -> None:
    files = ResultFiles(folder / "a.mp4")
    before, num_results = {path.name for path in folder.iterdir()}, _num_results(folder)
    finish_interrupted(files)
    assert _num_results(folder) == num_results, "a result was lost, or moved elsewhere"
    read_result(files)
    layout_beside(files.video)
    state = Unfinished(files, "me", versions=VERSIONS)
    state.announce()
    assert all(frame.shape == (8, 8, 3) and frame.dtype == np.uint8 for frame in state.frames.read())
    assert not any(frame.any() for frame in state.frames.read()), "frames of nobody"
    assert state.frames.num_chunks == state.frames.num_frames // 2
    generator, start = torch.Generator(), torch.ones(1, 4, 4, 8, 8)
    num_done, latents = state.steps.resume(
        start, num_steps=3, scheduler=SimpleNamespace(), generator=[generator]
    )
    assert (num_done == 2 and not latents.any()) or (num_done == 0 and latents is start)
    assert {path.name for path in folder.iterdir()} <= before | {"a.mp4", "a.json"}


def _dataset() -> CutClips:
    """What an `EncodingCache` asks of a dataset of one clip of four frames."""
    clip = SimpleNamespace(name="a", first_frame=0, num_frames=4)
    source = SimpleNamespace(infos=[clip], identity=lambda index: "a clip")
    return SimpleNamespace(source=source)  # type: ignore[return-value]


_GEOMETRY = Geometry(left=0, top=0, box_width=8, box_height=8, height=8, width=8)


def _encoded() -> dict[str, Tensor]:
    return {"latents": torch.arange(64.0).reshape(4, 4, 2, 2), "image_embeddings": torch.ones(4, 3)}


def _caches(folder: Path) -> None:
    cache = EncodingCache(place(folder, "cache"), weights="w")
    cache._write(*cache._place(_dataset(), 0, _GEOMETRY), _encoded())


def _read_cache(folder: Path) -> None:
    cache = EncodingCache(folder, weights="w")
    latents, embeddings = cache.read(_dataset(), 0, _GEOMETRY, [1, 3])
    assert torch.equal(latents, _encoded()["latents"][[1, 3]])
    assert embeddings is not None
    assert torch.equal(embeddings, torch.ones(2, 3))


def _results(folder: Path) -> None:
    made = place(place(folder, "results"), "0001_dance")
    output = {"width": 8, "height": 8, "num_frames": 3}
    write_json(made / "result.json", {"output": output, "seconds": 3.2, "verdict": {"sentences": ["poor"]}})
    (made / "result.yaml").write_text("seed: 3\n")


def _read_results(folder: Path) -> None:
    for result in finished_results(folder):
        HEARD.say(result.words())


def _locks(folder: Path) -> None:
    holder = {"work": "training", "pid": 1, "host": "here", "since": "now"}
    write_json(place(folder, "lock") / "holder.json", holder)


def _read_lock(folder: Path) -> None:
    with locked_folder(folder, work="a test", say=HEARD.say):
        if (folder / "holder.json").is_file():
            shutil.copy(folder / "holder.json", folder / ".mimic.lock")
        try:
            with locked_folder(folder, work="another", say=HEARD.say):
                raise AssertionError("two hold the lock")
        except FolderInUseError as error:
            HEARD.say(str(error))


PARSERS: dict[str, Parser] = {
    "videos": Parser(videos, read_video, 150),
    "pictures": Parser(pictures, read_picture, 250),
    "poses": Parser(poses, read_poses, 300),
    "adjustments": Parser(adjustments, read_adjustment, 80),
    "settings": Parser(_configs, _read_config, 120),
    "weights": Parser(_weights, _read_weights, 200, REFUSED),
    "lora": Parser(_loras, _read_lora, 80),
    "models": Parser(_models, _read_model, 12),
    "networks": Parser(_networks, _read_network, 60),
    "prepared": Parser(_prepared, _read_prepared, 120),
    "trainings": Parser(_trainings, _read_training, 150),
    "caches": Parser(_caches, _read_cache, 80),
    "results": Parser(_results, _read_results, 40),
    "cells": Parser(_cells, _read_cell, 60),
    "renders": Parser(_renders, _read_render, 200),
    "locks": Parser(_locks, _read_lock, 40),
}
av.logging.set_level(None)


def samples(name: str, folder: Path) -> Sequence[Path]:
    """Write and list the whole samples of a parser."""
    PARSERS[name].make(folder)
    return sorted(folder.iterdir())
