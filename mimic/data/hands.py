"""How many frames have a hand whose loss is amplified, and which threshold would give more?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from pose import PoseSequence
from pose.hands import hand_boxes

MOST_CLIPS = 200
"""Clips whose poses are looked at, at most."""
_THRESHOLDS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
_FEW = 0.2
"""A share below this is reported with the thresholds that give more."""


def hand_shares(
    clips: Iterable[PoseSequence], thresholds: Sequence[float] = _THRESHOLDS
) -> dict[float, float]:
    """Return for each threshold the share of frames in which the 21 points of at least one hand exceed it.

    Args:
        clips: poses of clips.
        thresholds: as `data.hand_threshold`.

    Returns:
        shares in [0, 1]; 0 without frames.
    """
    num_frames, found = 0, dict.fromkeys(thresholds, 0)
    for poses in clips:
        num_frames += len(poses)
        for threshold in thresholds:
            boxes = hand_boxes(poses, threshold)
            found[threshold] += int((~np.isnan(boxes[..., 0])).any(axis=(1, 2)).sum())
    return {threshold: count / max(num_frames, 1) for threshold, count in found.items()}


def all_thresholds(threshold: float) -> list[float]:
    """Return a threshold and the usual ones, the highest first."""
    return sorted({threshold, *_THRESHOLDS}, reverse=True)


def describe(shares: Mapping[float, float], threshold: float) -> str:
    """Describe the share of frames with a hand mask and, if it is small, what lower thresholds would give.

    Args:
        shares: of `hand_shares`, with `threshold` among its keys.
        threshold: the one in use.
    """
    share = shares[threshold]
    text = f"{share:.0%} of the frames have a hand mask (data.hand_threshold {threshold:g})"
    more = [(lower, shares[lower]) for lower in shares if lower < threshold and shares[lower] > share + 0.01]
    if share >= _FEW or not more:
        return text
    lower = ", ".join(f"{value:g} gives {found:.0%}" for value, found in sorted(more, reverse=True)[:3])
    return f"{text}; there the loss is amplified, so that hands hardly count: {lower}"
