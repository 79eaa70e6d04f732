"""Which frames each window of a long clip holds: lists of ints, nothing else."""

from __future__ import annotations

WINDOW_LAYOUTS = ("reference", "closed", "sliding")
"""``reference``: every window starts with frame 0, the reference (MimicMotion, `reference_windows`);
``closed``: windows that reach beyond the end are completed with the first frames (Animate Anyone and
MagicAnimate as released, `uniform_windows`); ``sliding``: the last window ends with the clip
(`sliding_windows`)."""


def lay_windows(num_frames: int, size: int, overlap: int, layout: str) -> list[list[int]]:
    """Frame indices of each window in one of `WINDOW_LAYOUTS`.

    Args:
        num_frames: length of the clip; for ``reference`` it counts frame 0, the reference itself.
        size: frames of a window.
        overlap: frames that neighbouring windows share.

    Raises:
        ValueError: a number is out of range, or `layout` is not known.
    """
    if layout not in WINDOW_LAYOUTS:
        raise ValueError(f"windows '{layout}' is not known; use one of {', '.join(WINDOW_LAYOUTS)}.")
    lay = {"reference": reference_windows, "closed": uniform_windows, "sliding": sliding_windows}[layout]
    return lay(num_frames, size, overlap)


def sliding_windows(num_frames: int, size: int, overlap: int) -> list[list[int]]:
    """Windows of `size` consecutive frames, neighbours sharing `overlap`; the last one ends with the clip.

    A clip shorter than a window is one window. Every frame is in at least one window.

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

    The other frames are covered by `sliding_windows`, so neighbours share frame 0 and ``tile_overlap - 1``
    more. The tiles are those of the released code, with two exceptions: `tile_overlap` 0 equals 1 (the
    released code leaves a frame between two tiles uncovered), and a clip shorter than a tile is one tile (an
    `IndexError` there). With a `tile_size` of 1 each frame is its own tile, without the reference.

    Raises:
        ValueError: a number is out of range (`tile_overlap` has to be below `tile_size`).
    """
    _check(num_frames, tile_size, tile_overlap, "tile_size", "tile_overlap")
    if tile_size == 1 or num_frames == 1:
        return [[frame] for frame in range(num_frames)]
    moving = sliding_windows(num_frames - 1, tile_size - 1, max(tile_overlap - 1, 0))
    return [[0, *(frame + 1 for frame in window)] for window in moving]


def uniform_windows(num_frames: int, size: int, overlap: int) -> list[list[int]]:
    """Windows at equal distances around the clip, as in Animate Anyone's and MagicAnimate's published code.

    Windows start every ``size - overlap`` frames, as long as there are frames to start at; one that reaches
    beyond the end continues with the first frames of the clip. The published function can also shift windows
    from step to step and spread their frames; both published pipelines leave that off.

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
            f"{overlap_name} is {overlap} and {size_name} {size}; the overlap has to be at least 0 and "
            f"smaller than the window, or windows never move on. Use {overlap_name} {min(6, size - 1)}."
        )
