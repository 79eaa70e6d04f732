"""The masks of a sample are those of its own frames, the reference first, mirrored as they are."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mimic.config.loading import build
from mimic.data.batch import collate
from mimic.data.dataset import DataSettings, build_dataset
from pose import PoseSequence
from pose.skeletons import FACE, HANDS
from tests.mimic.data.prepared import FPS, make_prepared

NUM_FRAMES, SIDE = 16, 4  # a frame for each of 4 x 4 latent pixels
KEY = re.compile(r"a-(\d+) frames (\d+) to (\d+), reference (\d+) of a-(\d+)(, mirrored)?")


def cell(number: int, region: str) -> tuple[int, int]:
    """Row and column of the latent pixel that the region covers in a frame of the video."""
    row, column = divmod(number, SIDE)
    return (row, column) if region == "hands" else (column, SIDE - 1 - row)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of one video of 48 x 48, in which hand and face wander from latent pixel to latent pixel."""
    folder = make_prepared(
        tmp_path_factory.mktemp("wandering"), clips_of_videos={"a.mp4": [(0, 8), (8, 8)]}, height=48, width=48
    )
    corners = np.array([[0.0, 0.0], [1.0, 1.0]])
    points = np.full((NUM_FRAMES, 1, 134, 2), 0.5)
    scores = np.zeros((NUM_FRAMES, 1, 134))
    scores[:, :, :18] = 1
    for region, part in (("hands", HANDS[0]), ("face", FACE)):
        places = np.arange(134)[part]
        scores[:, :, places] = 1
        for number in range(NUM_FRAMES):
            row, column = cell(number, region)
            square = (corners + np.array([column, row])) / SIDE
            points[number, 0, places] = square[np.arange(len(places)) % 2]
    for first in (0, 8):
        frames = slice(first, first + 8)
        poses = PoseSequence(points[frames], scores[frames], 48, 48, FPS)
        poses.save(folder / "poses" / f"a-{first:05d}.npz")
    return folder


def test_each_mask_is_of_its_own_frame(data: Path) -> None:
    content = {"path": str(data), "height": 32, "width": 32, "num_frames": 3, "stride": 2, "flip": True}
    settings = build(
        DataSettings, {**content, "canvas_short_side": 128, "regions": ["face", "hands"], "zoom": [1.0, 1.0]}
    )
    dataset = build_dataset(settings, split="train", seed=0)
    seen = set()
    for epoch in range(8):
        samples = [dataset[epoch, index] for index in range(2)]
        batch = collate(samples)
        for index, sample in enumerate(samples):
            found = KEY.fullmatch(sample.key)
            assert found, sample.key
            clip, first, last, reference, other = map(int, found.groups()[:5])
            is_mirrored = found[6] is not None
            numbers = [other + reference, *range(clip + first, clip + last + 1, 2)]
            for region in ("hands", "face"):
                expected = np.zeros((4, 1, SIDE, SIDE), np.float32)
                for place, number in enumerate(numbers):
                    row, column = cell(number, region)
                    expected[place, 0, row, SIDE - 1 - column if is_mirrored else column] = 1
                assert sample.masks[region].numpy() == pytest.approx(expected, abs=1e-5)
                assert np.array_equal(batch.masks[region][index], sample.masks[region])
            seen.add((is_mirrored, other != clip))
    assert len(seen) == 4
