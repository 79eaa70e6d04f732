"""What files hold is shown short and without odd letters; each case was found by the fuzzer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from mimic.cli.main import main
from mimic.config import ConfigError, load_inference_config
from mimic.config.loading import read_yaml
from mimic.data.index import DataError, read_index
from mimic.families.registry import find_family
from mimic.training.main import settings_of
from mimic.training.state import StateError, load_facts
from mimic.weights.errors import SourceError
from mimic.weights.parts import require_parts
from mimic.weights.strict import WeightsError, load_strictly, read_state
from pose import PoseError, PoseSequence
from pose.adjust import Adjustment, adjust_pose
from tests.pose.figures import clip
from tests.robustness.messages import ODD, fault_of


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


def _say_cases(folder: Path) -> None:
    (folder / "a.yaml").write_text(yaml.safe_dump({"test_case": ODD}))
    load_inference_config(folder / "a.yaml", ["seed=3"])


@pytest.mark.parametrize("say", [value for name, value in globals().items() if name.startswith("_say_")])
def test_what_a_file_holds_is_shown_short_and_without_odd_letters(tmp_path: Path, say: Any) -> None:
    kinds = (PoseError, WeightsError, SourceError, DataError, StateError, ConfigError)
    with pytest.raises(kinds) as raised:
        say(tmp_path)
    assert fault_of(str(raised.value)) is None


def test_names_of_files_do_not_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pose", str(tmp_path / "no\x1b[2J.mp4"), "-o", str(tmp_path / "a.npz")]) != 0
    said = capsys.readouterr().err
    assert "no\\x1b[2J.mp4" in said
    assert fault_of(said) is None
