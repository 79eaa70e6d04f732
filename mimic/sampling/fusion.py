"""Fusion weights of overlapping windows: one weight for each frame of each window, summing to one per frame.

The model's predictions are fused. For the samplers used here, a step is affine in (latents, prediction) for
each frame, and all windows start from the same latents. Fusing the latents after the step with the same
weights, as in the paper, therefore gives the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Windows = Sequence[Sequence[int]]


def fusion_weights(windows: Windows, mode: str) -> list[Tensor]:
    """Compute the weight of each frame of each window; at every frame, the weights sum to one.

    Permuting the windows permutes the weights in the same way.

    Args:
        windows: frame indices of each window, together covering frames 0 … N-1.
        mode: a key of `FUSIONS`: ``released``, ``progressive``, ``average`` or ``none``.

    Returns:
        for each window a float64 vector with one weight for each of its frames.

    Raises:
        ValueError: `mode` is unknown, or a frame is in no window.
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
    """MimicMotion's released code: w_k = min(u, 2 - u), u = 2 (k + 1/2) / N within a window, normalised."""
    weights = []
    for window in windows:
        u = 2 * (torch.arange(len(window), dtype=torch.float64) + 0.5) / len(window)
        weights.append(torch.minimum(u, 2 - u))
    return _normalised(windows, weights)


def _average(windows: Windows) -> list[Tensor]:
    """Equal weights for all windows that hold a frame (Animate Anyone, MagicAnimate)."""
    return _normalised(windows, [torch.ones(len(window), dtype=torch.float64) for window in windows])


def _none(windows: Windows) -> list[Tensor]:
    """No fusion: each frame is taken from the first window that holds it, which leaves hard cuts."""
    taken: set[int] = set()
    weights = []
    for window in windows:
        weights.append(torch.tensor([float(frame not in taken) for frame in window], dtype=torch.float64))
        taken.update(window)
    return weights


def _progressive(windows: Windows) -> list[Tensor]:
    """MimicMotion's paper: z_i[j] <- jλ z_i[j] + (1 - jλ) z_{i-1}[N - C + j], λ = 1 / (C + 1), 1 <= j <= C.

    C is the number of frames that window i shares with the windows before it. The rule is applied to one
    window after the other, where z_{i-1} is the result fused so far. Two consecutive windows get the paper's
    weights; where three or more overlap (C > N/2, or a last window aligned to the end), each gets the weight
    jλ and scales the weights of the windows before it by 1 - jλ. Frame 0, the reference, is in every window
    of MimicMotion and at no seam; all windows have the same weight there, as with the released weights.
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
"""Fusion functions by their name in calls and YAML. They take the windows in order of their last frame."""
