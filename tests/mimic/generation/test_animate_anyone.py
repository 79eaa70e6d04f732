"""A family whose videos do not begin with the reference, from YAML to file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from mimic.config import load_inference_config
from mimic.families.animate_anyone.tiny import tiny_pipeline
from mimic.generation import run_config
from mimic.video import probe
from tests.dancers import Stage

NUM_FRAMES = 3


@pytest.fixture
def model(tmp_path: Path) -> Path:
    pipeline = tiny_pipeline(height=32, width=32, seed=0)
    pipeline.generation_defaults["canvas_short_side"] = 256
    pipeline.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_poses_drive_a_picture_by_yaml(stage: Stage, model: Path, tmp_path: Path) -> None:
    case = {
        "name": "dance",
        "ref_image_path": str(stage.reference),
        "ref_video_path": str(stage.driving_poses.save(tmp_path / "moves.npz")),
        "max_frames": NUM_FRAMES,
        "sample_stride": 1,
        "align": "robust",
        "num_inference_steps": 1,
        "guidance_scale": 1.5,
        "tile_size": 2,
        "frames_overlap": 1,
        "fusion": "progressive",
        "compat": "released",
    }
    config = {
        "base_model_path": str(model),
        "device": "cpu",
        "estimator": "blazepose",
        "output_dir": str(tmp_path / "out"),
        "test_case": [case],
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    outcome = run_config(load_inference_config(path), is_progress_shown=False)
    assert outcome.failures == ()
    assert probe(outcome.results[0].path).num_frames == NUM_FRAMES
    report = json.loads((tmp_path / "out" / "dance.json").read_text())
    assert report["model"]["pipeline"] == "AnimateAnyonePipeline"
    assert {"unet", "reference_unet", "pose_guider", "vae", "image_encoder"} == {
        name.partition("/")[0] for name in report["model"]["weights_sha256"]
    }


def test_settings_that_this_family_does_not_have_are_told(stage: Stage, model: Path, tmp_path: Path) -> None:
    config = {
        "base_model_path": str(model),
        "device": "cpu",
        "estimator": "blazepose",
        "output_dir": str(tmp_path / "out"),
        "motion_bucket_id": 100,
        "test_case": [
            {
                "ref_image_path": str(stage.reference),
                "ref_video_path": str(stage.driving_poses.save(tmp_path / "moves.npz")),
            }
        ],
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match="AnimateAnyonePipeline has no setting motion_bucket_id"):
        run_config(load_inference_config(path), is_progress_shown=False)
