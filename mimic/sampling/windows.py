"""Which frames each window of a long clip holds: lists of ints, nothing else."""

from __future__ import annotations

import math

WINDOW_LAYOUTS = ("closed", "sliding")
"""``closed``: the last window is completed with the first frames (as Animate Anyone and MagicAnimate were
released); ``sliding``: it is anchored at the end."""


def lay_windows(num_frames: int, size: int, overlap: int, layout: str) -> list[list[int]]:
    """Windows in one of `WINDOW_LAYOUTS`.

    Raises:
        ValueError: a number is out of range, or `layout` is not known.
    """
    if layout not in WINDOW_LAYOUTS:
        raise ValueError(f"windows '{layout}' is not known; use one of {', '.join(WINDOW_LAYOUTS)}.")
    lay = uniform_windows if layout == "closed" else sliding_windows
    return lay(num_frames, size, overlap)


def sliding_windows(num_frames: int, size: int, overlap: int) -> list[list[int]]:
    """Windows of `size` frames in a row, neighbours sharing `overlap`; the last is anchored at the end.

    A clip shorter than a window gets one window of its own length. Every frame is in at least one window.

    Raises:
        ValueError: a number is out of range (`overlap` has to be below `size`).
    """
    _check(num_frames, size, overlap)
    if num_frames <= size:
        return [list(range(num_frames))]
    starts = list(range(0, num_frames - size + 1, size - overlap))
    if starts[-1] + size < num_frames:
        starts.append(num_frames - size)
    return [list(range(start, start + size)) for start in starts]


def reference_windows(num_frames: int, tile_size: int, tile_overlap: int) -> list[list[int]]:
    """MimicMotion's tiles: `tile_size` frames of which the first is always frame 0, the reference's own pose.

    They are `sliding_windows` over the other frames, so neighbours share ``tile_overlap - 1`` frames besides
    frame 0. `tile_overlap` 0 gives what 1 gives (the released code then leaves a frame between two tiles
    uncovered), and a clip shorter than a tile is one tile (there: an `IndexError`). In all other cases the
    tiles are the released ones. A tile of one frame has no room for the reference: each frame then stands
    alone.

    Raises:
        ValueError: a number is out of range (`tile_overlap` has to be below `tile_size`).
    """
    _check(num_frames, tile_size, tile_overlap, "tile_size", "tile_overlap")
    if tile_size == 1 or num_frames == 1:
        return [[frame] for frame in range(num_frames)]
    moving = sliding_windows(num_frames - 1, tile_size - 1, max(tile_overlap - 1, 0))
    return [[0, *(frame + 1 for frame in window)] for window in moving]


def uniform_windows(
    num_frames: int, size: int, overlap: int, *, step: int = 0, stride: int = 1, is_closed: bool = True
) -> list[list[int]]:
    """The windows of Animate Anyone's and MagicAnimate's published code: at even distances, around the end.

    Windows start every ``size - overlap`` frames; what the last ones lack is taken from the beginning of the
    clip, to which the end is closed. The published pipelines leave `step` and `stride` as they are here, so
    that all steps see the same windows.

    Args:
        step: number of the denoising step; windows of each step start somewhere else.
        stride: besides windows of neighbouring frames, others of every 2nd, 4th, … frame: so many kinds.
        is_closed: off, windows that start within the last `overlap` frames are left out.

    Raises:
        ValueError: a number is out of range.
    """
    _check(num_frames, size, overlap)
    if num_frames <= size:
        return [list(range(num_frames))]
    num_kinds = min(stride, math.ceil(math.log2(num_frames / size)) + 1)
    fraction = _reversed_bits(step)
    shift = round(num_frames * fraction)
    end = num_frames + shift - (0 if is_closed else overlap)
    return [
        [frame % num_frames for frame in range(start, start + size * spacing, spacing)]
        for spacing in (2**kind for kind in range(num_kinds))
        for start in range(int(fraction * spacing) + shift, end, size * spacing - overlap)
    ]


def _reversed_bits(step: int) -> float:
    """0, 1/2, 1/4, 3/4, 1/8, … (van der Corput): numbers in [0, 1) that fill it evenly."""
    value, digit = 0.0, 0.5
    while step:
        step, bit = divmod(step, 2)
        value += digit * bit
        digit /= 2
    return value


def _check(
    num_frames: int, size: int, overlap: int, size_name: str = "size", overlap_name: str = "overlap"
) -> None:
    if num_frames < 1:
        raise ValueError(f"num_frames is {num_frames}; a clip has at least one frame.")
    if size < 1:
        raise ValueError(f"{size_name} is {size}; a window holds at least one frame.")
    if not 0 <= overlap < size:
        raise ValueError(
            f"{overlap_name} is {overlap} and {size_name} {size}; the overlap has to be at least 0 and "
            f"smaller than the window, or windows never move on. Use {overlap_name} {min(6, size - 1)}."
        )
