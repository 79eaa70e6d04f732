from dataclasses import replace

import numpy as np
import pytest

from mimic.dancers import Body, World, sample_character, sample_motion
from mimic.dancers.skeleton import ARM_LIMITS_DEG, HEAD_LIMITS_DEG, SPINE_LIMITS_DEG, pose_body

WORLDS = [World.plain(), World.rich()]


@pytest.mark.parametrize("world", WORLDS, ids=["plain", "rich"])
def test_joints_stay_within_their_limits(world: World) -> None:
    for seed in range(6):
        state = sample_motion(np.random.default_rng(seed), world, duration_s=4).at(np.linspace(-1, 6, 300))
        for angles, limits in (
            (state.arms.reshape(-1, 6), ARM_LIMITS_DEG),
            (state.spine.reshape(-1, 3), SPINE_LIMITS_DEG),
            (state.head, HEAD_LIMITS_DEG),
        ):
            low, high = np.radians(limits).T
            assert (angles >= low - 1e-9).all()
            assert (angles <= high + 1e-9).all()
        assert state.fingers.min() >= 0
        assert state.fingers.max() <= 1


@pytest.mark.parametrize("world", WORLDS, ids=["plain", "rich"])
def test_movement_is_continuous_and_of_human_speed(world: World) -> None:
    step = 1 / 200
    for seed in range(4):
        motion = sample_motion(np.random.default_rng(seed), world, duration_s=3)
        figure = pose_body(Body(), motion.at(np.arange(0, 3, step)))
        for joints, fastest in ((figure.hands, 9.0), (figure.ankles, 5.0), (figure.head[None], 3.0)):
            velocity = np.diff(joints, axis=1) / step
            assert np.linalg.norm(velocity, axis=-1).max() < fastest  # body heights a second
            # No jumps: halving the step halves the way.
            assert np.linalg.norm(np.diff(velocity, axis=1), axis=-1).max() < 0.25 * fastest


def test_bones_keep_their_lengths() -> None:
    world = World.rich()
    body = sample_character(np.random.default_rng(3), world).body
    state = sample_motion(np.random.default_rng(3), world, duration_s=4).at(np.linspace(0, 4, 60))
    figure = pose_body(body, state)
    for start, end, length in (
        (figure.shoulders, figure.elbows, body.upper_arm),
        (figure.elbows, figure.wrists, body.forearm),
        (figure.hips, figure.knees, body.thigh),
        (figure.knees, figure.ankles, body.shin),
    ):
        assert np.allclose(np.linalg.norm(end - start, axis=-1), length * body.height, atol=2e-4)
    fingers = figure.hands[:, :, 1:].reshape(2, 60, 5, 4, 3)
    segments = np.linalg.norm(np.diff(fingers, axis=3), axis=-1)
    assert np.allclose(segments, segments[:1, :1], atol=1e-9)


def test_feet_stand_on_the_ground_and_do_not_slide() -> None:
    times = np.arange(0, 4, 0.02)
    for seed in range(4):
        state = sample_motion(np.random.default_rng(seed), World.plain(), duration_s=4).at(times)
        height = state.feet[:, :, 3]
        assert height.min() >= 0
        assert (height.min(axis=1) < 0.02).all()  # one foot always carries the body
        assert height.max() > 0.01
        stands = height < 1e-6
        stays = stands[1:] & stands[:-1]
        slide = np.linalg.norm(np.diff(state.feet[:, :, :2], axis=0), axis=-1)
        assert slide[stays].max() < 0.004
        ankles = pose_body(Body(), state).ankles
        reached = ankles[:, :, 1] - Body().ankle_height - height.T
        assert np.abs(reached).max() < 0.01


def test_turns_obey_the_world() -> None:
    times = np.linspace(0, 5, 100)
    plain = World.plain()
    yaws = [
        sample_motion(np.random.default_rng(i), plain, duration_s=5).at(times).root[:, 2] for i in range(12)
    ]
    assert np.abs(np.degrees(yaws)).max() <= plain.turn_deg
    assert np.degrees(np.ptp(yaws, axis=1)).max() > 20
    spinning = replace(World.rich(), full_turn_probability=1.0, beat_s=(0.5, 0.5))
    yaws = [
        sample_motion(np.random.default_rng(i), spinning, duration_s=5).at(times).root[:, 2] for i in range(4)
    ]
    assert np.degrees(np.ptp(yaws, axis=1)).min() > 250


def test_same_generator_same_dance() -> None:
    first, second, other = (
        sample_motion(np.random.default_rng(seed), World.plain(), duration_s=2).at([0.1, 1.7]).arms
        for seed in (4, 4, 5)
    )
    assert np.array_equal(first, second)
    assert not np.allclose(first, other)
