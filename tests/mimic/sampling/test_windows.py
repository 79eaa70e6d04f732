import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimic.sampling.windows import (
    WINDOW_LAYOUTS,
    lay_windows,
    reference_windows,
    sliding_windows,
    uniform_windows,
)
from tests.tiny import golden_json


@st.composite
def clips(draw):
    """(num_frames, window, overlap) with 0 <= overlap < window."""
    window = draw(st.integers(1, 24))
    return draw(st.integers(1, 100)), window, draw(st.integers(0, window - 1))


@given(clips())
def test_sliding_windows_cover_every_frame_with_windows_of_one_length(clip):
    num_frames, size, overlap = clip
    windows = sliding_windows(num_frames, size, overlap)
    assert {frame for window in windows for frame in window} == set(range(num_frames))
    assert all(window == list(range(window[0], window[0] + min(size, num_frames))) for window in windows)


@given(clips())
def test_all_but_the_last_two_neighbours_share_the_overlap(clip):
    windows = sliding_windows(*clip)
    for before, after in itertools.pairwise(windows[:-1]):
        assert len(set(before) & set(after)) == clip[2]


@given(clips())
def test_reference_windows_cover_every_frame(clip):
    windows = reference_windows(*clip)
    assert {frame for window in windows for frame in window} == set(range(clip[0]))


@given(clips())
def test_every_tile_starts_with_the_reference_and_has_the_tile_size(clip):
    num_frames, tile_size, _ = clip
    if tile_size == 1:
        return
    for window in reference_windows(*clip):
        assert window[0] == 0
        assert len(window) == min(tile_size, num_frames)
        assert window == sorted(set(window))


def test_tiles_are_the_released_ones():
    for row in golden_json("tiles")["rows"]:
        assert reference_windows(row["num_frames"], row["tile_size"], row["tile_overlap"]) == row["tiles"], (
            row
        )


def test_no_overlap_leaves_no_frame_between_tiles():
    assert reference_windows(12, 6, 0) == reference_windows(12, 6, 1)


def test_a_clip_shorter_than_a_tile_is_one_tile():
    assert reference_windows(4, 16, 6) == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("num_frames", "tile_size", "tile_overlap", "message"),
    [
        (10, 6, 6, "smaller than the window"),
        (10, 6, 9, "smaller than the window"),
        (10, 6, -1, "at least 0"),
        (10, 0, 0, "tile_size is 0"),
        (0, 6, 2, "num_frames is 0"),
    ],
)
def test_numbers_out_of_range_are_explained(num_frames, tile_size, tile_overlap, message):
    with pytest.raises(ValueError, match=message):
        reference_windows(num_frames, tile_size, tile_overlap)


@pytest.mark.parametrize(
    ("size", "overlap", "message"),
    [(0, 0, "^size is 0; a window"), (6, 9, "^overlap is 9 and size 6; .* Use overlap 5")],
)
def test_plain_windows_have_plain_names_for_their_numbers(size, overlap, message):
    with pytest.raises(ValueError, match=message):
        sliding_windows(10, size, overlap)


PUBLISHED = golden_json("../magic_animate/context_uniform")


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in PUBLISHED["uniform"]
        if (case["step"], case["context_stride"], case["closed_loop"]) == (0, 1, True)
    ],
)
def test_closed_windows_are_the_published_ones(case):
    arguments = case["num_frames"], case["context_size"], case["context_overlap"]
    assert lay_windows(*arguments, "closed") == case["windows"]


def test_layouts_are_named():
    assert WINDOW_LAYOUTS == ("reference", "closed", "sliding")
    assert lay_windows(16, 8, 3, "closed") == [
        list(range(8)), list(range(5, 13)), [*range(10, 16), 0, 1], [15, *range(7)]
    ]  # fmt: skip
    assert [window[0] for window in lay_windows(16, 8, 3, "sliding")] == [0, 5, 8]
    assert lay_windows(17, 6, 2, "reference") == reference_windows(17, 6, 2)
    with pytest.raises(ValueError, match="use one of reference, closed, sliding"):
        lay_windows(16, 8, 3, "open")


@given(clips())
def test_uniform_windows_cover_every_frame_and_none_twice_in_one(clip):
    windows = uniform_windows(*clip)
    assert {frame for window in windows for frame in window} == set(range(clip[0]))
    assert all(len(set(window)) == len(window) == min(clip[0], clip[1]) for window in windows)
