"""How overlapping windows become one clip: a weight for each frame of each window, summing to one per frame.

What is fused is the model's prediction. For the samplers used here a step is affine in (latents, prediction)
frame by frame, and windows share the latents they start from, so fusing the stepped latents, as the paper
writes it, with the same weights gives the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Windows = Sequence[Sequence[int]]


def fusion_weights(windows: Windows, mode: str) -> list[Tensor]:
    """One float64 vector a window: the weight of each of its frames. At every frame they sum to one.

    The result belongs to the windows, not to their order: permuting the windows permutes the weights.

    Args:
        windows: frame indices of each window, together covering frames 0 … N-1.
        mode: a key of `FUSIONS`: ``released``, ``progressive``, ``average`` or ``none``.

    Raises:
        ValueError: `mode` is not known, or a frame is in no window.
    """
    if mode not in FUSIONS:
        raise ValueError(f"fusion '{mode}' is not known; use one of {', '.join(FUSIONS)}.")
    covered = {frame for window in windows for frame in window}
    gaps = sorted(set(range(max(covered, default=0) + 1)) - covered)
    if gaps:
        raise ValueError(f"frames {gaps} are in no window; windows have to cover the clip.")
    order = sorted(range(len(windows)), key=lambda k: (windows[k][-1], list(windows[k])))
    weights = FUSIONS[mode]([windows[k] for k in order])
    by_window = dict(zip(order, weights, strict=True))
    return [by_window[k] for k in range(len(windows))]


def _released(windows: Windows) -> list[Tensor]:
    """MimicMotion's code: w_k = min(u, 2 - u), u = 2 (k + 1/2) / N over the tile, divided by the sum."""
    weights = []
    for window in windows:
        u = 2 * (torch.arange(len(window), dtype=torch.float64) + 0.5) / len(window)
        weights.append(torch.minimum(u, 2 - u))
    return _normalised(windows, weights)


def _average(windows: Windows) -> list[Tensor]:
    """The plain mean of all windows that hold a frame (Animate Anyone, MagicAnimate)."""
    return _normalised(windows, [torch.ones(len(window), dtype=torch.float64) for window in windows])


def _none(windows: Windows) -> list[Tensor]:
    """No fusion: a frame is the first window's that reaches it, which leaves hard cuts."""
    taken: set[int] = set()
    weights = []
    for window in windows:
        weights.append(torch.tensor([float(frame not in taken) for frame in window], dtype=torch.float64))
        taken.update(window)
    return weights


def _progressive(windows: Windows) -> list[Tensor]:
    """MimicMotion's paper: z_i[j] <- jλ z_i[j] + (1 - jλ) z_{i-1}[N - C + j], λ = 1 / (C + 1), 1 <= j <= C.

    C is the number of frames that window i shares with the windows before it. The rule is applied to the
    windows one after the other, z_{i-1} standing for all that has been fused so far: two windows in a row get
    the paper's weights, and where three or more meet (C > N/2, or a last window anchored at the end) each
    takes its jλ and leaves the rest to those before it. Frame 0, the reference, is in every window of
    MimicMotion and at the seam of none; it gets the plain mean, which the released weights amount to there.
    """
    weights = [[1.0] * len(window) for window in windows]
    holders_of_0 = sum(0 in window for window in windows)
    holding: dict[int, list[tuple[int, int]]] = {}  # frame -> (window, position) of those before
    for i, window in enumerate(windows):
        shared = sorted(frame for frame in window if frame in holding)
        lam = 1 / (len(shared) + 1)
        j_of = {frame: j for j, frame in enumerate(shared, start=1)}
        for position, frame in enumerate(window):
            if frame == 0:
                weights[i][position] = 1 / holders_of_0
                continue
            if frame in j_of:
                weights[i][position] = j_of[frame] * lam
                for earlier, place in holding[frame]:
                    weights[earlier][place] *= 1 - j_of[frame] * lam
            holding.setdefault(frame, []).append((i, position))
    return [torch.tensor(weight, dtype=torch.float64) for weight in weights]


def _normalised(windows: Windows, weights: list[Tensor]) -> list[Tensor]:
    total = torch.zeros(1 + max(max(window) for window in windows), dtype=torch.float64)
    for window, weight in zip(windows, weights, strict=True):
        total[list(window)] += weight
    return [weight / total[list(window)] for window, weight in zip(windows, weights, strict=True)]


FUSIONS: dict[str, Callable[[Windows], list[Tensor]]] = {
    "released": _released,
    "progressive": _progressive,
    "average": _average,
    "none": _none,
}
"""Ways to fuse, by their name in calls and YAML. A function gets the windows in order of their last frame."""
