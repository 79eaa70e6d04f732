"""Cuts are found where shots change, and nowhere else."""

import itertools

import numpy as np
import pytest

from mimic.data.prepare.cuts import difference, find_cuts, look_at
from tests.mimic.data.prepare.conftest import dancer


def _scene(seed: int, size: int = 96) -> np.ndarray:
    """A picture with large coloured fields."""
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(0, 256, (6, 6, 3)), np.ones((size // 6, size // 6, 1))).astype(np.uint8)


def _grainy(picture: np.ndarray, num_frames: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 6, (num_frames, *picture.shape))
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def test_every_cut_between_shots_is_found_at_its_frame():
    lengths = [11, 7, 4, 20, 2, 9]
    frames = np.concatenate([_grainy(_scene(i), length, i) for i, length in enumerate(lengths)])
    assert list(find_cuts(frames)) == np.cumsum(lengths)[:-1].tolist()


@pytest.mark.parametrize("place", [1, 3, 17, 19])
def test_a_cut_near_an_end_is_found(place):
    frames = np.concatenate([_grainy(_scene(0), place), _grainy(_scene(1), 20 - place)])
    assert list(find_cuts(frames)) == [place]


def test_concatenated_dancers_are_cut_apart_and_fast_dancing_is_not():
    shots = [dancer(seed, 30)[::3] for seed in (0, 1, 2)]  # three times as fast, at under 3 frames a second
    for shot in shots:
        assert list(find_cuts(shot)) == []
    assert list(find_cuts(np.concatenate(shots))) == [10, 20]


def test_a_close_dancer_who_fills_the_picture_is_not_cut():
    rng = np.random.default_rng(5)
    room, frames = _scene(7), []
    for i in range(30):  # a figure of half the width that jumps across the picture
        frame = room.copy()
        left = int(24 + 24 * np.sin(1.3 * i) + rng.integers(-4, 5))
        frame[:, max(0, left) : left + 48] = (200, 40, 60)
        frames.append(frame)
    changes = [difference(look_at(a), look_at(b)) for a, b in itertools.pairwise(frames)]
    assert max(changes) > 0.25  # the figure does move as much as a cut changes
    assert list(find_cuts(frames)) == []


def test_a_flash_is_no_cut():
    frames = _grainy(_scene(0), 24)
    frames[9:11] = 255
    assert list(find_cuts(frames)) == []


def test_frames_shown_twice_or_thrice_do_not_turn_movement_into_cuts():
    wide = np.tile(_scene(3, 192), (1, 3, 1))
    pan = [wide[:96, 9 * i : 9 * i + 96] for i in range(12)]
    for times in (1, 2, 3):
        assert list(find_cuts(np.repeat(pan, times, axis=0))) == []


def test_fading_light_is_no_cut():
    frames = [(_scene(0) * level).astype(np.uint8) for level in np.linspace(1, 0.2, 20)]
    assert list(find_cuts(frames)) == []


def test_no_frames_and_one_frame_have_no_cut():
    assert list(find_cuts([])) == []
    assert list(find_cuts([_scene(0)])) == []
