"""A model that DensePose drives, from a DensePose video or an ordinary one, by Python and by YAML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from mimic.config import load_inference_config
from mimic.dancers.write import synth
from mimic.data.transforms import frames_to_uint8, prepare_reference
from mimic.families.magic_animate.tiny import tiny_pipeline
from mimic.generation import generate, run_config
from mimic.generation.checks import InputError
from mimic.generation.drivers.body_parts import BodyPartMaps, check_is_densepose
from mimic.generation.panels import STRIP
from mimic.generation.result import GenerateResult
from mimic.video import VideoError, probe, read_frames, write_image
from pose.densepose import densepose_palette
from tests.mimic.models.test_densepose_model import ByBrightness, script
from tests.tiny import quiet

SIZE, NUM_FRAMES = 32, 5
SETTINGS = {"sample_stride": 1, "tile_size": 4, "tile_overlap": 1, "num_inference_steps": 1}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`clip_0000.mp4`, its DensePose video, a picture and a model."""
    folder = tmp_path_factory.mktemp("scene")
    synth(folder, num_clips=1, seconds=NUM_FRAMES / 8, fps=8, height=64, width=64, densepose=True)
    write_image(folder / "picture.png", next(iter(read_frames(folder / "clip_0000.mp4"))))
    tiny_pipeline(height=SIZE, width=SIZE, seed=0).save_pretrained(folder / "model")
    return folder


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return quiet(tiny_pipeline(height=SIZE, width=SIZE, seed=0))


@pytest.fixture(scope="module")
def driven(scene: Path, pipeline: Any) -> GenerateResult:
    """The picture of the scene, driven by its DensePose video."""
    return generate(
        scene / "picture.png",
        scene / "clip_0000.densepose.mp4",
        pipeline=pipeline,
        output=scene / "driven.mp4",
        is_progress_shown=False,
        side_by_side=True,
        **SETTINGS,
    )


def test_a_densepose_video_drives_without_poses(driven: GenerateResult) -> None:
    result = driven
    assert result.num_frames == NUM_FRAMES
    assert result.poses is None
    assert probe(result.path).num_frames == NUM_FRAMES
    report = json.loads(result.report.read_text())
    assert report["poses"] == {"driven_by": "densepose"}
    assert report["settings"]["windows"] == "closed"


def test_a_densepose_video_gives_the_frames_that_the_pipeline_gives_for_its_maps(
    driven: GenerateResult, scene: Path, pipeline: Any
) -> None:
    maps = np.stack(
        [
            prepare_reference(np.ascontiguousarray(frame), height=SIZE, width=SIZE)
            for frame in read_frames(scene / "clip_0000.densepose.mp4")
        ]
    )
    picture = prepare_reference(next(iter(read_frames(scene / "clip_0000.mp4"))), height=SIZE, width=SIZE)
    assert maps.shape == (NUM_FRAMES, SIZE, SIZE, 3)
    frames = pipeline(
        picture,
        maps,
        **{key: value for key, value in SETTINGS.items() if key != "sample_stride"},
        generator=torch.Generator().manual_seed(42),
        output_type="pt",
    ).frames[0]
    written = np.stack(list(read_frames(driven.path)))
    # Brightness alone: the file halves the resolution of colours, and random weights make coloured noise.
    brightness = [pictures.mean(-1).ravel() for pictures in (written, frames_to_uint8(frames))]
    assert np.corrcoef(*brightness)[0, 1] > 0.9


def test_the_maps_are_shown_between_reference_and_result(driven: GenerateResult) -> None:
    assert driven.side_by_side is not None
    assert probe(driven.side_by_side).width == 3 * 384  # the clip is the maps
    middle = np.stack(list(read_frames(driven.side_by_side)))[0, STRIP:, 384:768]
    assert np.abs(middle[2, 2].astype(int) - densepose_palette()[0]).max() < 12


def test_an_ordinary_video_drives_through_a_model_named_in_the_yaml(scene: Path, tmp_path: Path) -> None:
    model = script(ByBrightness(), tmp_path / "densepose.pt")
    case = {"ref_image_path": str(scene / "picture.png"), "ref_video_path": str(scene / "clip_0000.mp4")}
    config = {"base_model_path": str(scene / "model"), "device": "cpu", "output_dir": str(tmp_path / "out")}

    def run(**more: Any) -> Any:
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump({**config, **SETTINGS, "test_case": [case], **more}))
        return run_config(load_inference_config(path), is_progress_shown=False)

    outcome = run(densepose_model=str(model))
    assert not outcome.failures, outcome.failures
    assert outcome.results[0].num_frames == NUM_FRAMES
    with pytest.raises(InputError, match=r"clip_0000\.mp4 is no DensePose video.*densepose_model: FILE"):
        run()
    with pytest.raises(InputError, match="Pipeline has no setting motion_bucket_id; leave it out"):
        run(densepose_model=str(model), motion_bucket_id=127)


def test_ordinary_frames_and_poses_are_told_from_densepose(
    scene: Path, pipeline: Any, tmp_path: Path
) -> None:
    check_is_densepose(next(iter(read_frames(scene / "clip_0000.densepose.mp4"))), "it")
    with pytest.raises(VideoError, match=r"ordinary is no DensePose video: \d+% of its first frame"):
        check_is_densepose(next(iter(read_frames(scene / "clip_0000.mp4"))), "ordinary")
    with pytest.raises(ValueError, match="poses cannot drive this model"):
        generate(scene / "picture.png", scene / "clip_0000.npz", pipeline=pipeline, output=tmp_path / "a.mp4")


def test_kept_maps_come_back_as_they_were_and_number_0_is_background() -> None:
    frames = list(densepose_palette()[np.random.default_rng(0).integers(0, 25, (3, 16, 12))])
    maps = BodyPartMaps(16, 12, frames)
    assert len(maps) == 4
    assert np.array_equal(maps([1, 2, 3]), np.stack(frames))
    assert (maps.draw(0) == densepose_palette()[0]).all()
    assert maps.resized(32, 24).draw(1).shape == (32, 24, 3)
