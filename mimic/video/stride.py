"""What the released `sample_stride` means for a clip's frame rate."""

from __future__ import annotations

from fractions import Fraction


def released_stride(sample_stride: int, fps: float | Fraction) -> int:
    """Clip frames per driving frame: ``sample_stride * max(1, int(fps / 24))``.

    As in the released MimicMotion: a 30 fps clip at stride 2 gives 15 a second, and so does a 60 fps clip.
    """
    return sample_stride * max(1, int(fps / 24))
