"""Window layouts: the frame indices of each window of a long clip, as lists of ints."""

from __future__ import annotations

from pose.text import shown

WINDOW_LAYOUTS = ("reference", "closed", "sliding")
"""Window layouts. ``reference``: every window starts with frame 0, the reference (MimicMotion,
`reference_windows`); ``closed``: a window that exceeds the end of the clip wraps around to the first frames
(Animate Anyone and MagicAnimate as released, `uniform_windows`); ``sliding``: the last window ends at the end
of the clip (`sliding_windows`)."""


def lay_windows(num_frames: int, size: int, overlap: int, layout: str) -> list[list[int]]:
    """Compute the frame indices of each window.

    Args:
        num_frames: length of the clip, at least 1; for ``reference`` including frame 0, the reference.
        size: frames of a window, at least 1.
        overlap: frames that consecutive windows share, at least 0 and below `size`.
        layout: one of `WINDOW_LAYOUTS`.

    Raises:
        ValueError: a number is out of range, or `layout` is unknown.
    """
    if layout not in WINDOW_LAYOUTS:
        raise ValueError(f"windows '{layout}' is not known; use one of {', '.join(WINDOW_LAYOUTS)}.")
    lay = {"reference": reference_windows, "closed": uniform_windows, "sliding": sliding_windows}[layout]
    return lay(num_frames, size, overlap)


def sliding_windows(num_frames: int, size: int, overlap: int) -> list[list[int]]:
    """Lay windows of `size` consecutive frames that share `overlap` frames; the last ends at the clip's end.

    The last two windows may share more frames. A clip shorter than a window is one window. Every frame is in
    at least one window.

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
    """Lay MimicMotion's tiles: `tile_size` frames, the first of which is always frame 0, the reference.

    The other frames are covered by `sliding_windows`, so consecutive tiles share frame 0 and
    ``tile_overlap - 1`` other frames. The tiles are those of the released code, with two exceptions: a
    `tile_overlap` of 0 equals 1 (the released code leaves a frame between two tiles uncovered), and a clip
    shorter than a tile is one tile (the released code raises `IndexError`). With a `tile_size` of 1, each
    frame is a separate tile, without the reference.

    Raises:
        ValueError: a number is out of range (`tile_overlap` has to be below `tile_size`).
    """
    _check(num_frames, tile_size, tile_overlap, "tile_size", "tile_overlap")
    if tile_size == 1 or num_frames == 1:
        return [[frame] for frame in range(num_frames)]
    moving = sliding_windows(num_frames - 1, tile_size - 1, max(tile_overlap - 1, 0))
    return [[0, *(frame + 1 for frame in window)] for window in moving]


def uniform_windows(num_frames: int, size: int, overlap: int) -> list[list[int]]:
    """Lay evenly spaced windows that wrap around, as in Animate Anyone's and MagicAnimate's published code.

    A window starts every ``size - overlap`` frames; a window that exceeds the end continues with the first
    frames of the clip. The published function can also shift the windows at each step and dilate them; both
    published pipelines leave that off.

    Raises:
        ValueError: a number is out of range.
    """
    _check(num_frames, size, overlap)
    if num_frames <= size:
        return [list(range(num_frames))]
    starts = range(0, num_frames, size - overlap)
    return [[frame % num_frames for frame in range(start, start + size)] for start in starts]


def _check(
    num_frames: int, size: int, overlap: int, size_name: str = "size", overlap_name: str = "overlap"
) -> None:
    if num_frames < 1:
        raise ValueError(f"num_frames is {num_frames}; a clip has at least one frame.")
    if size < 1:
        raise ValueError(f"{size_name} is {size}; a window holds at least one frame.")
    if not 0 <= overlap < size:
        raise ValueError(
            f"{overlap_name} is {shown(overlap)} and {size_name} {shown(size)}; the overlap has to be at "
            f"least 0 and smaller than the window. Use {overlap_name} {min(6, size - 1)}."
        )
