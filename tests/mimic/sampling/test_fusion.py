import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimic.sampling.fusion import FUSIONS, fusion_weights
from mimic.sampling.windows import reference_windows, sliding_windows
from tests.mimic.sampling.test_windows import clips

modes = st.sampled_from(sorted(FUSIONS))
layouts = st.sampled_from([reference_windows, sliding_windows])


def weight_per_frame(windows, weights):
    total = torch.zeros(1 + max(map(max, windows)), dtype=torch.float64)
    for window, weight in zip(windows, weights, strict=True):
        total[window] += weight
    return total


@given(clips(), layouts, modes)
def test_weights_sum_to_one_at_every_frame(clip, layout, mode):
    windows = layout(*clip)
    weights = fusion_weights(windows, mode)
    assert all((weight >= 0).all() for weight in weights)
    torch.testing.assert_close(
        weight_per_frame(windows, weights), torch.ones(clip[0], dtype=torch.float64), rtol=0, atol=1e-12
    )


@given(st.integers(1, 60), modes)
def test_one_window_equals_no_fusion(num_frames, mode):
    (weights,) = fusion_weights([list(range(num_frames))], mode)
    assert torch.equal(weights, torch.ones(num_frames, dtype=torch.float64))


@given(clips(), layouts, modes, st.integers(0, 1000))
def test_the_order_of_windows_does_not_matter(clip, layout, mode, seed):
    windows = layout(*clip)
    by_window = dict(zip(map(tuple, windows), fusion_weights(windows, mode), strict=True))
    shuffled = random.Random(seed).sample(windows, len(windows))
    for window, weights in zip(shuffled, fusion_weights(shuffled, mode), strict=True):
        assert torch.equal(weights, by_window[tuple(window)])


@given(st.integers(2, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n - 1))))
def test_progressive_is_the_papers_formula_for_two_windows(numbers):
    size, overlap = numbers
    first = list(range(size))
    second = list(range(size - overlap, 2 * size - overlap))
    before, after = fusion_weights([first, second], "progressive")
    lam = 1 / (overlap + 1)
    j = torch.arange(1, overlap + 1, dtype=torch.float64)
    torch.testing.assert_close(after[:overlap], j * lam)
    torch.testing.assert_close(before[size - overlap :], 1 - j * lam)
    assert (before[: size - overlap] == 1).all()
    assert (after[overlap:] == 1).all()


def test_progressive_applies_the_formula_again_where_three_windows_meet():
    windows = [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]]
    frames = torch.tensor([[1.0, 1, 1, 1], [10.0, 10, 10, 10], [100.0, 100, 100, 100]], dtype=torch.float64)
    weights = fusion_weights(windows, "progressive")
    fused = torch.zeros(6, dtype=torch.float64)
    for window, weight, values in zip(windows, weights, frames, strict=True):
        fused[window] += weight * values
    step = [1, 1 + 9 / 4, 1 + 2 * 9 / 4, 1 + 3 * 9 / 4, 10]  # the first two windows, λ = 1/4
    expected = [*step[:2], *(z + j / 4 * (100 - z) for j, z in enumerate(step[2:], start=1)), 100]
    torch.testing.assert_close(fused, torch.tensor(expected, dtype=torch.float64))


def test_progressive_takes_the_mean_of_the_reference_and_counts_it_out_of_the_overlap():
    weights = fusion_weights(reference_windows(10, 6, 2), "progressive")  # share frame 5 only
    assert [float(weight[0]) for weight in weights] == [0.5, 0.5]
    assert float(weights[0][5]) == float(weights[1][1]) == 0.5


def test_released_weights_favour_the_middle_of_a_tile():
    first, second = fusion_weights(reference_windows(9, 6, 3), "released")  # share frames 0, 4 and 5
    u = [1 / 6, 3 / 6, 5 / 6, 5 / 6, 3 / 6, 1 / 6]
    assert float(first[4]) == pytest.approx(u[4] / (u[4] + u[1]))
    assert float(second[2]) == pytest.approx(u[2] / (u[5] + u[2]))


def test_none_takes_each_frame_from_one_window():
    for weight in fusion_weights(reference_windows(20, 6, 3), "none"):
        assert set(weight.tolist()) <= {0.0, 1.0}


def test_average_is_the_plain_mean():
    first, second = fusion_weights([[0, 1, 2], [1, 2, 3]], "average")
    assert first.tolist() == [1, 0.5, 0.5]
    assert second.tolist() == [0.5, 0.5, 1]


def test_an_unknown_mode_is_explained():
    with pytest.raises(ValueError, match="use one of released, progressive, average, none"):
        fusion_weights([[0]], "linear")


def test_a_frame_in_no_window_is_named():
    with pytest.raises(ValueError, match=r"frames \[1\] are in no window"):
        fusion_weights([[0, 2]], "average")
