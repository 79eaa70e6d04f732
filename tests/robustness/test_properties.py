"""What holds for any clip: windows and fusion together, fitted poses, frames read by seeking."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimic.sampling.fusion import FUSIONS, fusion_weights
from mimic.sampling.windows import WINDOW_LAYOUTS, lay_windows
from mimic.video import VideoError, read_frames
from mimic.video.seek import FrameReader, frame_table
from pose import PoseError, PoseSequence, align_pose
from tests.media import write_clip
from tests.pose.figures import clip

few = hypothesis.settings(max_examples=25, deadline=None, derandomize=True)
IN_ORDER = ("none", "progressive")  # of which the windows have to follow one another, as closed ones do not


@few
@given(
    st.integers(1, 80), st.integers(1, 20), st.integers(0, 19), st.sampled_from(WINDOW_LAYOUTS),
    st.sampled_from(sorted(FUSIONS)),
)  # fmt: skip
def test_windows_of_any_layout_fuse_to_the_prediction_of_the_whole(
    num_frames: int, size: int, overlap: int, layout: str, mode: str
) -> None:
    if layout == "closed" and mode in IN_ORDER:
        layout = "sliding"
    windows = lay_windows(num_frames, size, min(overlap, size - 1), layout)
    weights = fusion_weights(windows, mode)
    whole = torch.rand(num_frames, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fused = torch.zeros_like(whole)
    for window, weight in zip(windows, weights, strict=True):
        fused.index_add_(0, torch.tensor(window), weight * whole[window])
    torch.testing.assert_close(fused, whole)


def _any_poses(seed: int, num_frames: int, num_people: int) -> PoseSequence:
    """Poses that no estimator would find: people anywhere, of any size, with any scores, or absent."""
    rng = np.random.default_rng(seed)
    shape = (num_frames, num_people, 134)
    points = rng.normal(0.5, 10.0 ** rng.uniform(-3, 1), (*shape, 2))
    scores = rng.uniform(0, 1.2, shape) * (rng.random(shape) < rng.random())
    return PoseSequence(
        points,
        scores,
        int(rng.integers(1, 900)),
        int(rng.integers(1, 900)),
        25.0,
        rng.random(shape[:2]) < 0.8,
    )


@few
@given(
    st.integers(0, 10**6), st.integers(1, 5), st.integers(0, 3), st.integers(0, 2),
    st.sampled_from(("released", "robust", "limbs", "none")),
)  # fmt: skip
def test_any_poses_are_fitted_to_finite_places_or_refused_in_a_sentence(
    seed: int, num_frames: int, num_people: int, num_references: int, mode: str
) -> None:
    driving, reference = _any_poses(seed, num_frames, num_people), _any_poses(seed + 1, 1, num_references)
    try:
        fitted = align_pose(driving, reference, mode=mode)
    except PoseError:
        assert mode == "released"
        return
    assert np.isfinite(fitted.points).all()
    assert (fitted.height, fitted.width) == (reference.height, reference.width)
    np.testing.assert_array_equal(fitted.scores, driving.scores)


@few
@given(
    st.floats(30, 120), st.floats(0.3, 3.0), st.floats(-40, 40), st.floats(-40, 40),
    st.sampled_from(("released", "robust", "limbs")),
)  # fmt: skip
def test_a_larger_reference_elsewhere_moves_the_fit_along(
    size: float, factor: float, x: float, y: float, mode: str
) -> None:
    driving = clip(num_frames=3, size=60.0, step=(2.0, 0.0))
    near, far = clip(size=size), clip(size=size * factor, at=(60.0 + x, 30.0 + y))
    one, other = (align_pose(driving, reference, mode=mode).points for reference in (near, far))
    where = (np.array([60.0, 30.0]) / [120, 160], np.array([60.0 + x, 30.0 + y]) / [120, 160])
    np.testing.assert_allclose(other - where[1], factor * (one - where[0]), atol=2e-3 * factor)


@hypothesis.settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 12), min_size=4, max_size=12), st.integers(0, 3), st.data())
def test_any_frame_of_any_clip_is_the_one_of_reading_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], b_frames: int, data: st.DataObject
) -> None:
    folder: Path = tmp_path_factory.mktemp("clip")
    times = (np.cumsum(steps) / 60).tolist()
    options = {"crf": "10", "preset": "ultrafast", "g": "3", "bf": str(b_frames)}
    path = write_clip(folder / "a.mp4", times, options=options)
    in_order = list(read_frames(path))
    assert frame_table(path).num_frames == len(in_order)
    wanted = data.draw(st.lists(st.integers(0, len(in_order) - 1), min_size=1, max_size=6))
    reader = FrameReader(path)
    for number, picture in zip(wanted, reader.read(wanted), strict=True):
        np.testing.assert_array_equal(picture, in_order[number])
    with pytest.raises((IndexError, VideoError)):
        reader.read([len(in_order)])
    reader.close()
