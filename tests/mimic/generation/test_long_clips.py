"""Memory stays flat and time in proportion, however long the clip."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pose.types import NUM_POINTS
from tests.dancers import Stage

POSE_BYTES = NUM_POINTS * 3 * 8
"""Of a frame: two coordinates and a score for each point, in float64."""
LATENT_BYTES = 4 * 4 * 4 * 4
"""Of a frame of 32x32: four channels in float32."""


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(sys.platform != "linux", reason="the highest memory is read from a file of Linux alone")
def test_ten_thousand_frames_take_the_memory_of_a_hundred_beside_poses_and_latents(
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
    # Latents: before and after a step, noise and prediction. Poses: as given, read, fitted, drawn, and while
    # they are judged; the allocator keeps what was freed.
    held_mb = (5 * POSE_BYTES + 4 * LATENT_BYTES) * 10_000 / 2**20
    assert ten_thousand["highest_mb"] - held_mb < 1.05 * hundred["highest_mb"]
