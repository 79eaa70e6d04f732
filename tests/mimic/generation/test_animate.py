"""One picture, one clip, one pipeline: the video, what it plays like, and what is written down of it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mimic import generate
from mimic.config import CaseSettings
from mimic.generation.drivers import DriverTools
from mimic.generation.drivers.skeleton import SkeletonDriver, SkeletonMaps, fit_to_reference
from mimic.generation.output import Output, write_frames
from mimic.generation.panels import STRIP, Panels
from mimic.generation.reference import output_size, see_reference
from mimic.video import probe, read_frames, read_image
from pose import PoseError, PoseSequence, draw_pose
from pose.estimators import Estimator
from tests.dancers import CLAPS, FPS, NUM_FRAMES, Stage
from tests.media import claps_heard

# The test's pipeline says that it is a toy, as the bundled miniature does.
pytestmark = pytest.mark.filterwarnings("ignore:This is a toy")


def make(stage: Stage, pipeline: Any, output: Path, **settings: Any) -> Any:
    """A video from poses that are known, which needs no estimator."""
    settings = {"sample_stride": 1, "align": "robust"} | settings
    driving = settings.pop("driving", stage.driving_poses)
    return generate(
        settings.pop("reference", stage.reference),
        driving,
        pipeline=pipeline,
        output=output,
        reference_pose=stage.reference_pose,
        **settings,
    )


@pytest.fixture(scope="module")
def estimated(
    stage: Stage, pipeline: Any, estimator: Estimator, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """The stage's picture, driven by poses that were estimated in its clip."""
    return generate(
        stage.reference,
        stage.driving,
        pipeline=pipeline,
        output=tmp_path_factory.mktemp("estimated") / "result.mp4",
        estimator=estimator,
        sample_stride=2,
        align="robust",
        smooth=3,
        side_by_side=True,
    )


def test_estimated_poses_drive_the_picture(estimated: Any) -> None:
    info = probe(estimated.path)
    assert (info.num_frames, info.fps, info.height, info.width) == (5, 5, 32, 32)
    assert (estimated.num_frames, estimated.fps) == (5, 5)
    assert len(estimated.poses) == 6


def test_the_sound_of_the_clip_stays(estimated: Any) -> None:
    assert estimated.has_audio
    assert claps_heard(estimated.path) == pytest.approx(CLAPS, abs=0.03)  # through two AAC encodings


def test_reference_clip_skeleton_and_result_are_shown_beside_each_other(stage: Stage, estimated: Any) -> None:
    beside = probe(estimated.side_by_side)
    size = (STRIP + 384, 4 * 384)
    assert (beside.num_frames, beside.height, beside.width, beside.has_audio) == (5, *size, True)
    shown = [frame[STRIP:, 384:768].astype(int) for frame in read_frames(estimated.side_by_side)]
    wanted = list(read_frames(stage.driving, stride=2))
    assert len(shown) == len(wanted)
    for panel, frame in zip(shown, wanted):
        side = min(384, round(384 * frame.shape[1] / frame.shape[0]))
        middle = cv2.resize(frame, (side, 384), interpolation=cv2.INTER_AREA)
        assert np.abs(panel[:, (384 - side) // 2 :][:, :side] - middle).mean() < 6


def test_the_report_tells_clip_and_estimator(stage: Stage, estimated: Any) -> None:
    report = json.loads(estimated.report.read_text())
    assert report["poses"]["estimator"] == "blazepose"
    assert report["driving"]["sha256"] == hashlib.sha256(stage.driving.read_bytes()).hexdigest()
    assert (report["driving"]["stride"], report["driving"]["clip_fps"]) == (2, 10)


def test_python_is_told_what_kind_of_model_it_is(stage: Stage, pipeline: Any, output: Path) -> None:
    with pytest.warns(UserWarning, match="This is a toy"):
        make(stage, pipeline, output)


def test_a_tall_picture_is_padded_so_that_its_person_stays_whole(
    stage: Stage, pipeline: Any, estimator: Estimator
) -> None:
    square = read_image(stage.reference)
    side = square.shape[0]
    tall = square[:, side // 4 : side - side // 4]
    tall = np.concatenate([tall] + 2 * [np.repeat(tall[-1:], side // 2, axis=0)])  # the dancer is at its top
    find_pose = SkeletonDriver(DriverTools(lambda: estimator)).reference_pose
    with pytest.raises(PoseError, match="nobody"):
        see_reference(tall, pipeline, CaseSettings(fit="crop"), find_pose=find_pose)
    padded = see_reference(tall, pipeline, CaseSettings(fit="pad"), find_pose=find_pose)
    assert padded.padding_note is not None
    assert "fit=crop" in padded.padding_note
    assert padded.original.shape[0] == padded.original.shape[1] == 2 * side
    assert np.array_equal(padded.original[:, side - side // 4 : side + side // 4], tall)
    person = padded.pose.points[0, 0][padded.pose.scores[0, 0] > 0.5]
    assert 0 <= person[:, 1].min() < person[:, 1].max() < 0.6


def test_sound_is_stretched_where_the_result_plays_at_another_speed(
    stage: Stage, pipeline: Any, estimator: Estimator, output: Path
) -> None:
    generate(
        stage.reference,
        stage.driving,
        pipeline=pipeline,
        output=output,
        estimator=estimator,
        reference_pose=stage.reference_pose,
        sample_stride=5,
        fps=4,
        align="robust",
    )
    assert probe(output).duration_s == pytest.approx(0.5)
    assert claps_heard(output) == pytest.approx([clap / 2 for clap in CLAPS], abs=0.06)


def test_sound_can_be_dropped(stage: Stage, pipeline: Any, estimator: Estimator, output: Path) -> None:
    generate(
        stage.reference,
        stage.driving,
        pipeline=pipeline,
        output=output,
        estimator=estimator,
        reference_pose=stage.reference_pose,
        sample_stride=1,
        max_frames=2,
        audio="drop",
    )
    assert not probe(output).has_audio
    assert probe(output).num_frames == 2


def test_the_report_tells_settings_weights_and_stages(stage: Stage, pipeline: Any, output: Path) -> None:
    result = make(stage, pipeline, output, seed=7, num_inference_steps=2)
    report = json.loads(result.report.read_text())
    assert result.report == output.with_suffix(".json")
    assert report["seed"] == 7
    # What was left out stands there as it was filled in from the model.
    settings = report["settings"]
    assert (settings["num_inference_steps"], settings["tile_size"], settings["tile_overlap"]) == (2, 6, 2)
    assert (settings["min_guidance_scale"], settings["conditioning_fps"], settings["fusion"]) == (
        1,
        7,
        "released",
    )
    hashes = report["model"]["weights_sha256"]
    assert set(hashes) == {
        f"{part}/{name}.safetensors"
        for part, name in (
            ("unet", "diffusion_pytorch_model"),
            ("vae", "diffusion_pytorch_model"),
            ("pose_net", "diffusion_pytorch_model"),
            ("image_encoder", "model"),
        )
    }
    unet = "unet/diffusion_pytorch_model.safetensors"
    assert hashes[unet] == hashlib.sha256((stage.model / unet).read_bytes()).hexdigest()
    assert [stage["name"] for stage in report["stages"]] == ["reference", "poses", "denoising", "decoding"]
    assert all(stage["seconds"] >= 0 and stage["peak_memory_mb"] > 1 for stage in report["stages"])
    assert report["versions"]["torch"] == torch.__version__
    assert report["output"]["num_frames"] == NUM_FRAMES
    assert report["reference"]["sha256"] == hashlib.sha256(stage.reference.read_bytes()).hexdigest()


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    stage: Stage, pipeline: Any, tmp_path: Path
) -> None:
    videos = [tmp_path / name for name in ("a.mp4", "b.mp4", "c.mp4")]
    for video, seed in zip(videos, (1, 1, 2)):
        make(stage, pipeline, video, seed=seed, max_frames=3)
    first, second, other = (video.read_bytes() for video in videos)
    assert first == second
    assert first != other


def test_the_frames_are_the_pipelines_own_without_the_references(
    stage: Stage, pipeline: Any, output: Path
) -> None:
    result = make(stage, pipeline, output, crf=0, max_frames=4)
    expected = pipeline(
        Image.fromarray(see_reference_of(stage, pipeline)),
        draw_pose(result.poses, 32, 32, canvas_short_side=256),
        generator=torch.Generator().manual_seed(42),
        output_type="np",
    ).frames[0]
    frames = list(read_frames(output))
    assert len(frames) == len(expected) - 1 == 4
    luma = np.array([0.2126, 0.7152, 0.0722])  # of BT.709; the colours of noise do not survive yuv420p
    for frame, image in zip(frames, expected[1:]):
        assert np.abs(frame @ luma - image @ luma * 255).mean() < 2


def see_reference_of(stage: Stage, pipeline: Any) -> np.ndarray:
    settings = CaseSettings()
    seen = see_reference(
        stage.reference,
        pipeline,
        settings,
        find_pose=lambda *_, **__: pytest.fail("not needed"),
        pose=stage.reference_pose,
    )
    return seen.picture


@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_a_clip_shorter_than_a_window_works(
    stage: Stage, pipeline: Any, output: Path, num_frames: int
) -> None:
    assert make(stage, pipeline, output, max_frames=num_frames).num_frames == num_frames
    assert probe(output).num_frames == num_frames


def test_saved_poses_drive_as_the_poses_do(stage: Stage, pipeline: Any, tmp_path: Path) -> None:
    saved = stage.driving_poses.save(tmp_path / "moves.npz")
    make(stage, pipeline, tmp_path / "a.mp4", max_frames=3, sample_stride=2)
    make(stage, pipeline, tmp_path / "b.mp4", max_frames=3, sample_stride=2, driving=saved)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert probe(tmp_path / "a.mp4").fps == FPS / 2


def test_pictures_in_memory_are_as_good_as_files(stage: Stage, pipeline: Any, tmp_path: Path) -> None:
    make(stage, pipeline, tmp_path / "a.mp4", max_frames=2)
    make(stage, pipeline, tmp_path / "b.mp4", max_frames=2, reference=read_image(stage.reference))
    make(stage, pipeline, tmp_path / "c.mp4", max_frames=2, reference=Image.open(stage.reference))
    first = (tmp_path / "a.mp4").read_bytes()
    assert first == (tmp_path / "b.mp4").read_bytes() == (tmp_path / "c.mp4").read_bytes()


def test_released_roundings_make_the_frames_darker_by_less_than_a_level(
    stage: Stage, pipeline: Any, tmp_path: Path
) -> None:
    for name, compat in (("a.mp4", "none"), ("b.mp4", "released")):
        make(stage, pipeline, tmp_path / name, compat=compat, max_frames=2, crf=0)
    pairs = zip(read_frames(tmp_path / "a.mp4"), read_frames(tmp_path / "b.mp4"))
    darker = [np.mean(rounded.astype(float) - cut) for rounded, cut in pairs]
    assert 0.2 < np.mean(darker) < 1.0


def test_the_pipelines_own_progress_bar_is_left_as_it_was(stage: Stage, pipeline: Any, output: Path) -> None:
    pipeline.set_progress_bar_config(desc="mine", disable=False)
    try:
        make(stage, pipeline, output, max_frames=1)
        assert pipeline._progress_bar_config == {"desc": "mine", "disable": False}
    finally:
        pipeline.set_progress_bar_config(disable=True)


@pytest.mark.parametrize(
    ("settings", "picture_size", "expected"),
    [
        ({}, (100, 50), (32, 32)),  # the model's own
        ({"resolution": 72}, (100, 50), (128, 72)),  # portrait as the picture is, 9:16
        ({"resolution": 72}, (50, 100), (72, 128)),
        ({"height": 48, "width": 40}, (50, 100), (48, 40)),
    ],
)
def test_the_size_is_the_set_one_or_the_models(
    pipeline: Any, settings: dict[str, int], picture_size: tuple[int, int], expected: tuple[int, int]
) -> None:
    picture = np.zeros((*picture_size, 3), np.uint8)
    assert output_size(picture, pipeline, CaseSettings(**settings)) == expected
    assert pipeline.size_unit == 8


def test_a_small_result_does_not_blind_the_estimator(stage: Stage, estimator: Estimator) -> None:
    picture = read_image(stage.reference)
    driver = SkeletonDriver(DriverTools(lambda: estimator))
    pose = driver.reference_pose(picture, 32, 32, CaseSettings(), name="picture")
    body = slice(0, 18)
    distance = np.linalg.norm(pose.points[0, 0, body] - stage.reference_pose.points[0, 0, body], axis=1)
    assert np.median(distance) < 0.03


def test_maps_are_drawn_when_asked_for_and_the_same_each_time(stage: Stage) -> None:
    settings = CaseSettings(align="robust")
    poses = fit_to_reference(stage.driving_poses, stage.reference_pose, settings)
    maps = SkeletonMaps(poses, 32, 24, canvas_short_side=256)
    expected = draw_pose(poses, 32, 24, canvas_short_side=256)
    assert len(maps) == NUM_FRAMES + 1
    assert np.array_equal(maps([3, 0, 3]), expected[[3, 0, 3]])
    maps._max_kept = 0  # beyond the budget they are drawn anew
    assert np.array_equal(maps([5, 5]), expected[[5, 5]])
    assert maps.resized(64, 48).draw(0).shape == (64, 48, 3)


def test_the_reference_is_frame_0_and_the_driving_pose_moves_to_it(stage: Stage) -> None:
    poses = fit_to_reference(stage.driving_poses, stage.reference_pose, CaseSettings(align="robust"))
    assert np.array_equal(poses.points[0], stage.reference_pose.points[0])
    assert poses.fps == stage.driving_poses.fps
    assert poses.metadata["alignment"]["mode"] == "robust"


def test_released_alignment_that_has_nothing_to_fit_names_the_remedy(stage: Stage) -> None:
    blind = PoseSequence(
        stage.reference_pose.points, np.zeros_like(stage.reference_pose.scores), height=384, width=384
    )
    with pytest.raises(PoseError, match="align: robust needs fewer joints"):
        fit_to_reference(stage.driving_poses, blind, CaseSettings())


def test_frames_are_encoded_as_they_are_decoded(stage: Stage, pipeline: Any, output: Path) -> None:
    settings = CaseSettings(align="robust")
    poses = fit_to_reference(stage.driving_poses, stage.reference_pose, settings)
    seen = see_reference(
        stage.reference,
        pipeline,
        settings,
        find_pose=lambda *_, **__: pytest.fail("not needed"),
        pose=stage.reference_pose,
    )
    moves = SkeletonDriver(DriverTools(lambda: pytest.fail("not needed"))).read(
        stage.driving_poses, seen, pipeline, CaseSettings(sample_stride=1, align="robust")
    )
    encoded: list[int] = []

    def decoded() -> Any:
        for number in range(NUM_FRAMES):
            assert len(encoded) == number  # the one before has gone into the file
            yield np.full((32, 32, 3), number, np.uint8)

    result = Output(output, None, moves.output_fps(settings), 18, moves, NUM_FRAMES, has_audio=False)
    write_frames(
        decoded(),
        result,
        seen,
        SkeletonMaps(poses, 32, 32),
        progress=lambda done, total: encoded.append(done),
    )
    assert encoded == list(range(1, NUM_FRAMES + 1))
    assert probe(output).num_frames == NUM_FRAMES


def test_panels_show_reference_skeleton_and_result(stage: Stage, pipeline: Any) -> None:
    settings = CaseSettings(align="robust")
    poses = fit_to_reference(stage.driving_poses, stage.reference_pose, settings)
    seen = see_reference(
        stage.reference,
        pipeline,
        settings,
        find_pose=lambda *_, **__: pytest.fail("not needed"),
        pose=stage.reference_pose,
    )
    maps = SkeletonMaps(poses, 32, 32, canvas_short_side=256)
    panels = Panels(seen, maps)
    drawn = panels.draw(4, np.full((32, 32, 3), 77, np.uint8))
    assert drawn.shape == (panels.height, panels.width, 3) == (STRIP + 384, 1152, 3)
    labels, drawn = drawn[:STRIP], drawn[STRIP:]
    assert all(labels[:, at : at + 384].max() > 200 for at in (0, 384, 768))
    assert np.array_equal(drawn[:, :384], read_image(stage.reference))
    assert np.array_equal(drawn[:, 384:768], draw_pose(poses[4], 384, 384, canvas_short_side=256)[0])
    assert (drawn[:, 768:] == 77).all()


def test_a_result_that_cannot_be_written_is_one_sentence(stage: Stage, pipeline: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot write .*a\.mp4: .*file is no folder"):
        make(stage, pipeline, tmp_path / "file" / "a.mp4", max_frames=1)
