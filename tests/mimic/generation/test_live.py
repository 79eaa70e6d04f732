"""A live character: each picture from its frame and earlier ones, frames dropped and never queued."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

from mimic.files import ASSETS
from mimic.generation.live import LiveCharacter, LiveStream, Pose
from mimic.generation.live_poses import FITTED_AT, FitStream, PoseStream
from mimic.models.temporal_convolution import TemporalConv
from mimic.video import read_frames
from pose import PoseError, load_estimator
from pose.estimators import Estimator
from tests.tiny import random_pipeline

PICTURE, CLIP = (ASSETS / "demo" / name for name in ("reference.png", "driving.mp4"))
SIZE = {"height": 32, "width": 32}


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return load_estimator("blazepose", device="cpu", num_threads=1)


@pytest.fixture(scope="module")
def frames() -> list[NDArray[np.uint8]]:
    return list(read_frames(CLIP, max_frames=6))


@pytest.fixture
def character(estimator: Estimator) -> Iterator[LiveCharacter]:
    made = LiveCharacter(random_pipeline(), PICTURE, estimator=estimator, **SIZE)
    yield made
    made.close()


def test_a_picture_is_what_the_pipeline_makes_of_the_same_window(
    character: LiveCharacter, frames: list[NDArray[np.uint8]]
) -> None:
    poses = [character.pose(frame) for frame in frames[:2]]
    assert all(pose.is_seen for pose in poses)
    for pose in poses:
        latents = character.sample(pose)
    own = character._painter.draw(*(part[0] for part in _points(character)))
    maps = np.stack([own, *(pose.drawn for pose in poses)])
    expected = random_pipeline()(
        Image.fromarray(character.reference.picture), maps, tile_size=3, tile_overlap=0,
        num_inference_steps=1, noise="shared", generator=torch.Generator().manual_seed(42),
        output_type="latent",
    ).frames  # fmt: skip
    torch.testing.assert_close(latents[0, 0], expected[0, -1], rtol=1e-4, atol=1e-4)


def _points(character: LiveCharacter) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    assert character.reference.pose is not None
    return character.reference.pose.points, character.reference.pose.scores


def test_later_frames_change_nothing(
    character: LiveCharacter, estimator: Estimator, frames: list[NDArray[np.uint8]]
) -> None:
    first = [character(frame) for frame in frames]
    other = LiveCharacter(random_pipeline(), PICTURE, estimator=estimator, **SIZE)
    again = [other(frame) for frame in [*frames[:3], frames[0], frames[0]]]
    other.close()
    assert np.array_equal(first[:3], again[:3])
    assert first[0].shape == (32, 32, 3)


def test_the_fit_settles(estimator: Estimator, frames: list[NDArray[np.uint8]]) -> None:
    follow, fit = PoseStream(estimator), FitStream(estimator.image(np.asarray(Image.open(PICTURE))))
    poses = [pose for pose in map(follow, frames) if pose is not None]
    assert len(poses) == len(frames)
    for number in range(FITTED_AT[-1]):
        fit(poses[number % len(poses)])
    settled = fit(poses[0]).points
    fit(poses[3])
    assert np.array_equal(fit(poses[0]).points, settled)


def test_somebody_who_leaves_is_held_and_then_gone(
    character: LiveCharacter, frames: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimic.generation.live.HOLD_SECONDS", 60.0)
    seen, empty = character.pose(frames[0]), np.zeros_like(frames[0])
    held = character.pose(empty)
    assert not held.is_seen
    assert np.array_equal(held.drawn, seen.drawn)
    monkeypatch.setattr("mimic.generation.live.HOLD_SECONDS", -1.0)
    assert not character.pose(empty).drawn.any()
    assert character.pose(frames[1]).is_seen


def test_frames_are_dropped_and_not_queued(
    character: LiveCharacter, frames: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = character.decode

    def slow(latents: torch.Tensor) -> NDArray[np.uint8]:
        time.sleep(0.3)
        return decode(latents)

    monkeypatch.setattr(character, "decode", slow)
    stream = LiveStream(character)
    numbers = []
    last = 0
    for _ in range(30):
        last = stream.submit(frames[0])
        time.sleep(0.02)
    while (shown := stream.picture(after=max(numbers, default=0), timeout=60)) is not None:
        numbers.append(shown.number)
        if shown.number == last:
            break
    assert numbers == sorted(numbers)
    assert numbers[-1] == last == 30
    assert stream.figures.num_shown < 15
    assert stream.figures.num_dropped == 30 - stream.figures.num_shown
    stream.close()
    assert stream.is_closed
    with pytest.raises(RuntimeError, match="closed"):
        stream.submit(frames[0])


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_no_more_frames_are_under_way_than_are_computed_at_once(
    character: LiveCharacter,
    frames: list[NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
) -> None:
    begun, ended, under_way = 0, 0, []
    pose, decode = character.pose, character.decode

    def first(frame: NDArray[np.uint8]) -> Pose:
        nonlocal begun
        begun += 1
        under_way.append(begun - ended)
        return pose(frame)

    def last(latents: torch.Tensor) -> NDArray[np.uint8]:
        nonlocal ended
        time.sleep(0.1)
        ended += 1
        return decode(latents)

    monkeypatch.setattr(character, "pose", first)
    monkeypatch.setattr(character, "decode", last)
    stream = LiveStream(character, at_once=at_once)
    while stream.figures.num_shown < 8:
        stream.submit(frames[0])
        time.sleep(0.01)
    stream.close()
    assert max(under_way) <= at_once


def test_a_fault_in_a_stage_reaches_the_caller(
    character: LiveCharacter, frames: list[NDArray[np.uint8]]
) -> None:
    stream = LiveStream(character)
    stream.submit(np.zeros((4, 4), np.uint8))  # type: ignore[arg-type] - no RGB
    with pytest.raises((ValueError, IndexError)):
        stream.picture(timeout=60)
    assert stream.is_closed
    stream.close()


def test_a_stream_without_frames_ends_by_itself(character: LiveCharacter) -> None:
    stream = LiveStream(character, idle_s=0.2)
    assert stream.picture(timeout=60) is None
    assert stream.is_closed
    stream.close()


def test_the_pipeline_is_given_back_as_it_was(estimator: Estimator) -> None:
    pipeline = random_pipeline()
    budget = pipeline.pose_feature_budget_mb
    character = LiveCharacter(pipeline, PICTURE, estimator=estimator, **SIZE)
    assert any(isinstance(module, TemporalConv) for module in pipeline.vae.modules())
    character.close()
    networks = (pipeline.vae, pipeline.unet)
    assert not any(isinstance(module, TemporalConv) for network in networks for module in network.modules())
    assert pipeline.pose_feature_budget_mb == budget


def test_frames_do_not_look_for_the_device_again(
    estimator: Estimator, frames: list[NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def looked(pipeline: object) -> torch.device:
        asked.append(1)
        return torch.device("cpu")

    pipeline = random_pipeline()
    with closing(LiveCharacter(pipeline, PICTURE, estimator=estimator, **SIZE)) as character:
        monkeypatch.setattr(DiffusionPipeline, "_execution_device", property(looked))
        character(frames[0])
        assert not asked
    assert pipeline.execution_device == torch.device("cpu")
    assert asked


def test_what_cannot_be_live_is_a_sentence(estimator: Estimator, character: LiveCharacter) -> None:
    with pytest.raises(ValueError, match="window is 1; this model needs 2 frames or more"):
        LiveCharacter(random_pipeline(), PICTURE, estimator=estimator, window=1, **SIZE)
    with pytest.raises(PoseError, match="limbs, robust or none"):
        LiveCharacter(random_pipeline(), PICTURE, estimator=estimator, align="released", **SIZE)
    with pytest.raises(PoseError, match="one person"):
        LiveCharacter(random_pipeline(), PICTURE, estimator=estimator, person="all", **SIZE)
    with pytest.raises(ValueError, match="at_once is 0; expected 1 or more"):
        LiveStream(character, at_once=0)
