"""Flicker and seams: of clips whose changes are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimic.metrics.video import changes, flicker, seam_jump, seam_steps
from mimic.sampling.windows import WINDOW_LAYOUTS, lay_windows, reference_windows, sliding_windows


def ramp(num_frames: int, *, step: float = 2.0, size: int = 8) -> np.ndarray:
    """Brighter by `step` grey levels with every frame."""
    return np.broadcast_to(np.arange(num_frames)[:, None, None, None] * step, (num_frames, size, size, 3))


def test_changes_are_mean_absolute_differences():
    frames = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3)).astype(np.uint8)
    expected = np.abs(np.diff(frames.astype(float), axis=0)).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(changes(frames), expected, rtol=1e-6)
    np.testing.assert_allclose(changes(iter(frames)), expected, rtol=1e-6)


def test_movement_of_the_truth_and_a_constant_error_are_no_flicker():
    truth = np.random.default_rng(1).uniform(0, 200, (6, 8, 8, 3))
    assert flicker(truth + 20.0, truth) == pytest.approx(0, abs=1e-4)
    shaken = truth + np.where(np.arange(6) % 2, 3.0, 0.0)[:, None, None, None]
    assert flicker(shaken, truth) == pytest.approx(3.0, abs=1e-4)


def test_flicker_of_one_frame_is_an_error():
    with pytest.raises(ValueError, match="two frames"):
        flicker(ramp(1))


def test_clips_of_two_lengths_are_an_error():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        changes(ramp(4), ramp(5))


def test_seam_jump_is_one_without_a_jump_and_the_ratio_with_one():
    frames = ramp(20).copy()
    assert seam_jump(changes(frames), [7, 14]) == pytest.approx(1.0)
    frames[7:] += 4.0  # the step from 6 to 7 is three times the others
    assert seam_jump(changes(frames), [7]) == pytest.approx(3.0)
    assert seam_jump(changes(frames), [range(5, 9)]) == pytest.approx(3.0)


def test_a_long_seam_of_noise_is_no_worse_than_a_short_one():
    found = np.random.default_rng(2).uniform(1, 3, 4000)
    for length in (1, 6):
        seams = [range(start, start + length) for start in range(50, 3900, 50)]
        assert seam_jump(found, seams) == pytest.approx(1.0, abs=0.05)


def test_seam_jump_against_the_truth_leaves_movement_out():
    truth = ramp(16).copy()
    truth[8:] += 50.0  # a cut that belongs to the clip
    noise = np.random.default_rng(3).uniform(-1, 1, truth.shape)
    assert seam_jump(changes(truth + noise), [8]) > 5
    assert seam_jump(changes(truth + noise, truth), [8]) == pytest.approx(1.0, abs=0.1)


def test_seam_jump_cannot_be_told_without_seams_or_without_other_steps():
    assert seam_jump(changes(ramp(10)), []) is None
    assert seam_jump(changes(ramp(4)), [range(1, 4)]) is None
    assert seam_jump(changes(ramp(6, step=0.0)), [2]) is None


def test_a_seam_outside_the_clip_is_an_error():
    with pytest.raises(ValueError, match="not within"):
        seam_jump(changes(ramp(5)), [5])


def test_seams_of_sliding_windows_are_the_shared_frames_and_the_step_after():
    assert seam_steps(sliding_windows(10, 6, 2)) == [range(4, 7)]
    assert seam_steps(sliding_windows(8, 4, 0)) == [range(4, 5)]
    assert seam_steps(sliding_windows(5, 8, 2)) == []


def test_seams_of_reference_windows_leave_the_reference_out():
    windows = reference_windows(12, 6, 2)  # [0 1..5], [0 5..9], [0 7..11]
    assert windows[1] == [0, 5, 6, 7, 8, 9]
    assert seam_steps(windows, first_frame=1)[0] == range(4, 6)
    frames = ramp(11).copy()
    frames[5:] += 6.0  # without the reference, frame 5 is the first that only the second window holds
    assert seam_jump(changes(frames), seam_steps(windows, first_frame=1)[:1]) == pytest.approx(4.0)


def test_a_window_that_wraps_around_has_a_seam_at_each_of_its_pieces():
    """Windows 0-7, 5-12, 10-15 and 0-1, 15 and 0-6."""
    seams = seam_steps(lay_windows(16, 8, 3, "closed"))
    ends_of_first_pieces, passages, begins_of_last_pieces = [range(2, 3), range(7, 8)], [range(5, 9)], [15]
    assert seams == [
        *ends_of_first_pieces, *passages, range(10, 14), *(range(t, t + 1) for t in begins_of_last_pieces)
    ]  # fmt: skip
    assert seam_steps(lay_windows(16, 8, 3, "sliding")) == [range(5, 9), range(8, 14)]


def test_a_jump_where_a_wrapped_window_ends_is_seen():
    frames = ramp(26).copy()
    frames[6:] += 8.0  # windows 0-7, 6-13, 12-19, 18-25, and 24-25 with 0-5
    windows = lay_windows(26, 8, 2, "closed")
    assert windows[-1] == [24, 25, 0, 1, 2, 3, 4, 5]
    assert seam_jump(changes(frames), seam_steps(windows)[:1]) == pytest.approx(5.0)


@st.composite
def layouts(draw):
    """(num_frames, window, overlap, layout)."""
    window = draw(st.integers(1, 12))
    layout = draw(st.sampled_from(WINDOW_LAYOUTS))
    return draw(st.integers(2, 40)), window, draw(st.integers(0, window - 1)), layout


@given(layouts())
def test_every_step_at_which_other_windows_hold_the_frame_is_within_a_seam(case):
    num_frames, size, overlap, layout = case
    has_reference = layout == "reference"
    windows = lay_windows(num_frames + has_reference, size, overlap, layout)
    seams = seam_steps(windows, first_frame=1 if has_reference else 0)
    frames = range(1, num_frames + 1) if has_reference else range(num_frames)
    holders = [{number for number, window in enumerate(windows) if frame in window} for frame in frames]
    changed = {t for t in range(1, num_frames) if holders[t] != holders[t - 1]}
    within = {t for seam in seams for t in seam}
    assert changed <= within <= set(range(1, num_frames))
    assert all(seam.start in changed and seam[-1] in changed for seam in seams)
