"""Memory stays flat and time in proportion, however long the clip."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dancers import Stage

LATENT_BYTES = 4 * 8 * 8 * 4
"""Of a frame of 32x32: four channels of 8x8 in float32."""


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(sys.platform != "linux", reason="the highest memory is read from a file of Linux alone")
def test_ten_thousand_frames_take_little_more_memory_than_a_hundred_latents_aside(
    stage: Stage, tmp_path: Path
) -> None:
    (tmp_path / "model").symlink_to(stage.model)
    (tmp_path / "reference.png").symlink_to(stage.reference)
    stage.reference_pose.save(tmp_path / "reference.npz")
    stage.driving_poses.save(tmp_path / "moves.npz")
    command = [
        sys.executable,
        "-m",
        "tests.mimic.generation.long_clips",
        str(tmp_path),
        "100",
        "1000",
        "10000",
    ]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    hundred, thousand, ten_thousand = json.loads(printed)
    assert thousand["cpu_seconds"] / 1000 < 1.1 * hundred["cpu_seconds"] / 100
    # Noise, sample, the sum of predictions, their mean, and what the scheduler's step and its checks make.
    latents_mb = 10 * LATENT_BYTES * 10_000 / 2**20
    # The poses, 3 kB a frame in float64, are held once: 5 % of the whole.
    assert ten_thousand["highest_mb"] - latents_mb < 1.1 * hundred["highest_mb"]
