from functools import cache

import numpy as np
import pytest

from mimic.dancers import World, add_detector_noise, render, sample_character, sample_motion
from mimic.dancers.noise import WRONG_AT_MOST
from pose import PoseSequence
from pose.skeletons import BODY, FACE, LEFT_HAND, NECK, RIGHT_HAND

FRAMES = 60


@cache
def _exact(seed: int) -> PoseSequence:
    rng = np.random.default_rng(seed)
    character, motion = sample_character(rng, World.plain()), sample_motion(rng, World.plain(), duration_s=5)
    return render(character, motion, np.arange(FRAMES) / 12, 64, 64, supersample=1).poses


def _error(noisy: PoseSequence, exact: PoseSequence) -> np.ndarray:
    """Distances F x 134 in body heights."""
    height = np.ptp(exact.points[:, 0, BODY, 1], axis=1).max() / 0.9
    return np.linalg.norm(noisy.points - exact.points, axis=-1)[:, 0] / height


def test_no_strength_changes_nothing() -> None:
    exact = _exact(0)
    same = add_detector_noise(exact, np.random.default_rng(0), strength=0)
    assert np.allclose(same.points, exact.points, atol=1e-12)
    assert np.allclose(same.scores, exact.scores)


def test_same_generator_same_noise() -> None:
    first, second, other = (add_detector_noise(_exact(0), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first.points, second.points)
    assert np.array_equal(first.scores, second.scores)
    assert not np.allclose(first.points, other.points)
    assert (first.height, first.width, first.fps) == (64, 64, _exact(0).fps)


def test_good_points_tremble_as_a_detectors_do() -> None:
    body, hands, face = [], [], []
    for seed in range(6):
        noisy = add_detector_noise(_exact(seed % 3), np.random.default_rng(seed))
        error, sure = _error(noisy, _exact(seed % 3)), noisy.scores[:, 0] > 0.8
        body.append(error[:, BODY][sure[:, BODY]])
        hands.append(error[:, 92:][sure[:, 92:]])
        face.append(error[:, FACE][sure[:, FACE]])
    assert 0.003 < np.median(np.concatenate(body)) < 0.007
    assert 0.003 < np.median(np.concatenate(hands)) < 0.008
    assert np.median(np.concatenate(face)) < 0.004


def test_trembling_lasts_and_drifts() -> None:
    """Neighbouring frames err alike: the difference is smaller than two independent errors would give."""
    noisy = add_detector_noise(_exact(1), np.random.default_rng(3))
    error = (noisy.points - _exact(1).points)[:, 0, NECK]
    assert np.abs(np.diff(error, axis=0)).mean() < 0.9 * np.abs(error[:, None] - error[None]).mean()


def test_what_is_wrong_is_unsure() -> None:
    wrong = 0
    for seed in range(12):
        noisy = add_detector_noise(_exact(seed % 3), np.random.default_rng(seed), strength=2)
        error = _error(noisy, _exact(seed % 3))
        wrong += int((error > 0.05).sum())
        assert noisy.scores[:, 0][error > 0.05].max() <= WRONG_AT_MOST
        assert noisy.scores.min() >= 0
        assert noisy.scores.max() <= 1
    assert wrong > 500


def test_every_failure_happens() -> None:
    swapped = lost_hand = lost_face = false_hand = frames = 0
    for seed in range(30):
        exact = _exact(seed % 3)
        noisy = add_detector_noise(exact, np.random.default_rng(seed))
        left, right = exact.points[:, 0, LEFT_HAND], exact.points[:, 0, RIGHT_HAND]
        found = noisy.points[:, 0, LEFT_HAND]
        to_left = np.linalg.norm(found - left, axis=-1).mean(axis=1)
        to_right = np.linalg.norm(found - right, axis=-1).mean(axis=1)
        swapped += int(((to_right < 0.02) & (to_left > 0.1)).sum())
        false_hand += int(((to_right > 0.05) & (to_left > 0.1)).sum())
        lost_hand += int((noisy.scores[:, 0, LEFT_HAND.start] == 0).sum())
        lost_face += int((noisy.scores[:, 0, FACE.start] == 0).sum())
        frames += FRAMES
    for count in (swapped, false_hand, lost_hand, lost_face):
        assert 0.002 * frames < count < 0.1 * frames


def test_more_strength_is_more_noise() -> None:
    errors = [
        np.mean(
            [
                _error(add_detector_noise(_exact(0), np.random.default_rng(i), strength=s), _exact(0))
                for i in range(5)
            ]
        )
        for s in (0.5, 1.0, 2.0)
    ]
    assert errors[0] < errors[1] < errors[2]


def test_several_people_and_single_frames_pass() -> None:
    exact = _exact(0)
    pair = PoseSequence(
        np.repeat(exact.points, 2, axis=1)[:1],
        np.repeat(exact.scores, 2, axis=1)[:1],
        64,
        64,
        metadata={"a": 1},
    )
    noisy = add_detector_noise(pair, np.random.default_rng(0))
    assert noisy.points.shape == (1, 2, 134, 2)
    assert not np.allclose(noisy.points[:, 0], noisy.points[:, 1])
    assert noisy.metadata == {"a": 1}


def test_negative_strength_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        add_detector_noise(_exact(0), np.random.default_rng(0), strength=-1)
