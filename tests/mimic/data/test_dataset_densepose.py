"""Samples whose maps show the parts of the body: of dancers exactly, of videos by files beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mimic.config.loading import ConfigError, build
from mimic.data.batch import Sample
from mimic.data.dataset import ClipDataset, DataSettings, build_dataset
from mimic.data.index import DataError
from mimic.data.transforms import as_pixels
from mimic.video import VideoWriter
from pose.densepose import densepose_palette, exchange_sides, read_densepose
from tests.mimic.data.prepared import FPS, make_prepared

TINY = {"height": 32, "width": 32, "num_frames": 3, "stride": 1, "pose_kind": "densepose"}
DANCERS = {"source": "synthetic", "num_clips": 2, "seconds": 1.0, "supersample": 1, **TINY}


def dataset(**settings: object) -> ClipDataset:
    return build_dataset(build(DataSettings, settings), split="train", seed=0)


def parts_of(sample: Sample) -> np.ndarray:
    """``(F + 1) x H x W``."""
    maps = sample.pose_maps.permute(0, 2, 3, 1).numpy()
    parts = read_densepose(maps)
    assert np.array_equal(densepose_palette()[parts], maps)
    return parts


def test_maps_of_dancers_lie_on_their_frames() -> None:
    dancers = dataset(**DANCERS)
    sample = dancers[0, 0]
    assert sample.pose_maps.shape == (4, 3, 32, 32)
    parts = parts_of(sample)
    pictures = as_pixels(torch.cat([sample.reference[None], sample.frames])).numpy()
    for picture, part in zip(pictures, parts):
        assert 0.03 < (part > 0).mean() < 0.5
        empty = picture[:, part == 0]
        assert np.median(np.abs(empty - np.median(empty, axis=1, keepdims=True))) < 0.1


def test_mirrored_samples_have_left_and_right_exchanged() -> None:
    plain, either = dataset(**DANCERS), dataset(**DANCERS, flip=True)
    seen = set()
    for epoch in range(6):
        expected, found = parts_of(plain[epoch, 0]), parts_of(either[epoch, 0])
        is_mirrored = "mirrored" in either[epoch, 0].key
        seen.add(is_mirrored)
        assert np.array_equal(found, exchange_sides(expected[..., ::-1]) if is_mirrored else expected)
    assert seen == {False, True}


def test_prepared_clips_have_theirs_beside_them(tmp_path: Path) -> None:
    data = make_prepared(tmp_path, clips_of_videos={"a.mp4": [(2, 6)]})
    folder = tmp_path / "densepose"
    folder.mkdir()
    with pytest.raises(DataError, match=r"there is no DensePose video of a\.mp4"):
        dataset(path=str(data), densepose_videos=str(folder), **TINY)
    with VideoWriter(folder / "a.densepose.mp4", height=48, width=80, fps=FPS, crf=4) as writer:
        for number in range(8):
            writer.write(np.broadcast_to(densepose_palette()[3 * number], (48, 80, 3)).astype(np.uint8))
    prepared = dataset(path=str(data), densepose_videos=str(folder), **TINY)
    sample = prepared[0, 0]
    first = int(sample.key.split("frames ")[1].split()[0])
    parts = parts_of(sample)
    assert [int(part[16, 16]) for part in parts[1:]] == [3 * (2 + first + i) for i in range(3)]


def test_a_prepared_folder_alone_does_not_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name the folder of DensePose videos: densepose_videos"):
        build(DataSettings, {"path": str(tmp_path), **TINY})
