"""Windows of the ablation's dancers."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.ablation.windows import RollingBuffer
from mimic.miniature.dancers import DancerSettings, make_dancer

DANCERS = DancerSettings(height=32, width=32, num_pictures=4, canvas_short_side=96)


def test_clip_windows_keep_the_reference_first_and_the_rest_in_a_row():
    buffer = RollingBuffer(4, np.random.default_rng(0), scaling_factor=1.0)
    dancer = make_dancer(3, DANCERS)
    buffer.add(dancer, torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 1, 8, 8))
    for _ in range(10):
        numbers = buffer.draw(1, 3, timing="clip").latents[0, :, 0, 0, 0].tolist()
        assert numbers[0] == 0
        assert numbers[2] == numbers[1] + 1
