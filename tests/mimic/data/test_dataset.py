"""Samples are what the contract says, of the right frames, and the same for the same numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.utils.data import DataLoader

from mimic.config.loading import ConfigError, build
from mimic.data.batch import Sample, collate
from mimic.data.crops import choose_geometry
from mimic.data.dataset import ClipDataset, DataSettings, build_dataset
from mimic.data.index import DataError
from mimic.data.transforms import as_pixels, pose_maps_to_tensor
from mimic.video import read_frames
from pose import PoseSequence, draw_pose
from tests.mimic.data.prepared import make_prepared

TINY = {"height": 32, "width": 32, "num_frames": 3, "stride": 1, "canvas_short_side": 128}
DANCERS = {
    "source": "synthetic",
    "num_clips": 2,
    "num_val_clips": 1,
    "seconds": 1.0,
    "supersample": 1,
    "regions": ["hands", "face"],
    "flip": True,
    "noise_strength": 1.0,
    **TINY,
}
Prepare = Callable[..., ClipDataset]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(
        tmp_path_factory.mktemp("prepared"),
        clips_of_videos={"a.mp4": [(0, 10), (12, 9)], "b.mp4": [(3, 12)], "c.mp4": [(0, 4)]},
        split={"b.mp4": "val"},
    )


@pytest.fixture
def prepared(data: Path) -> Prepare:
    def make(split: str = "train", seed: int = 0, **changes: object) -> ClipDataset:
        settings = build(DataSettings, {"path": str(data), **TINY, **changes})
        return build_dataset(settings, split=split, seed=seed)  # type: ignore[arg-type]

    return make


def dancers(split: str = "train", seed: int = 0, **changes: object) -> ClipDataset:
    return build_dataset(build(DataSettings, {**DANCERS, **changes}), split=split, seed=seed)  # type: ignore[arg-type]


def assert_same(one: Sample, other: Sample) -> None:
    assert one.key == other.key
    for name in ("frames", "reference", "pose_maps"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    for region, mask in one.masks.items():
        assert torch.equal(mask, other.masks[region]), region


def places(key: str) -> tuple[str, int, int, int, str, bool]:
    """Clip, first and last frame, reference frame, its clip, mirrored or not: as a key says."""
    found = re.fullmatch(r"(\S+) frames (\d+) to (\d+), reference (\d+) of ([^,]+)(, mirrored)?", key)
    assert found, key
    return found[1], int(found[2]), int(found[3]), int(found[4]), found[5], found[6] is not None


def test_a_sample_is_what_the_contract_says() -> None:
    sample = dancers()[0, 1]
    assert sample.frames.shape == (3, 3, 32, 32)
    assert sample.reference.shape == (3, 32, 32)
    assert sample.pose_maps.shape == (4, 3, 32, 32)
    assert {name: mask.shape for name, mask in sample.masks.items()} == {
        "hands": (4, 1, 4, 4),
        "face": (4, 1, 4, 4),
    }
    for tensor in (sample.frames, sample.reference, sample.pose_maps):
        assert tensor.dtype == torch.uint8, "a quarter of what floats would take on their way"
        assert tensor.min() < tensor.max()
    assert all(0 <= float(mask.min()) <= float(mask.max()) <= 1 for mask in sample.masks.values())
    assert len(collate([sample, dancers()[0, 0]])) == 2


def test_a_sample_holds_the_frames_and_poses_that_its_key_names(prepared: Prepare, data: Path) -> None:
    dataset = prepared(stride=2, flip=True)
    in_order = list(read_frames(data.parent / "videos" / "a.mp4"))
    begins = {"a-00000": 0, "a-00012": 12}
    was_mirrored, was_elsewhere = set(), set()
    for epoch in range(6):
        for index in range(len(dataset)):
            sample = dataset[epoch, index]
            clip, first, last, reference, other, is_mirrored = places(sample.key)
            assert last == first + 4
            geometry = choose_geometry((48, 80), (32, 32), is_flipped=is_mirrored)
            numbers = [begins[other] + reference, *range(begins[clip] + first, begins[clip] + last + 1, 2)]
            cut = pose_maps_to_tensor(geometry.pictures([in_order[number] for number in numbers]))
            assert torch.equal(as_pixels(sample.frames), cut[1:])
            assert torch.equal(as_pixels(sample.reference), cut[0])
            for place, (name, frame) in enumerate([(other, reference), (clip, first), (clip, first + 2)]):
                poses = PoseSequence.load(data / "poses" / f"{name}.npz")[frame]
                drawn = draw_pose(geometry.poses(poses), 32, 32, canvas_short_side=128)
                assert torch.equal(as_pixels(sample.pose_maps[place]), pose_maps_to_tensor(drawn)[0])
            was_mirrored.add(is_mirrored)
            was_elsewhere.add(other != clip)
    assert was_mirrored == was_elsewhere == {True, False}


def test_samples_are_the_same_whatever_the_workers(prepared: Prepare) -> None:
    order = [(epoch, index) for epoch in (0, 5) for index in (1, 0)]
    for dataset in (dancers(), prepared(flip=True, crop="random", zoom=[1.0, 1.3])):
        alone = [dataset[place] for place in order]
        for workers in (0, 2):
            loader = DataLoader(
                dataset,
                sampler=order,  # type: ignore[arg-type]
                batch_size=None,
                num_workers=workers,
                multiprocessing_context="forkserver" if workers else None,
            )
            for one, other in zip(alone, loader, strict=True):
                assert_same(one, other)


def test_epochs_and_seeds_differ_and_the_dancers_do_not() -> None:
    keys = {(seed, epoch): dancers(seed=seed)[epoch, 0].key for seed in (0, 1) for epoch in range(4)}
    assert len(set(keys.values())) > 4
    assert {places(key)[0] for key in keys.values()} == {"dancer-0-train-0000"}
    assert dancers(dancer_seed=1)[0, 0].key != keys[0, 0]


def test_validation_shows_others_and_is_not_mirrored_or_cut_at_random(prepared: Prepare) -> None:
    kept = dancers("val", flip=True, crop="random", zoom=[1.0, 2.0])
    assert len(kept) == 1
    assert not any(places(kept[epoch, 0].key)[5] for epoch in range(6))
    boxes = {
        kept._geometry(0, zoom=share, place=(share, share), is_flipped=True) for share in (0.0, 0.4, 1.0)
    }
    assert boxes == {choose_geometry((32, 32), (32, 32))}
    assert places(prepared("val")[0, 0].key)[0] == "b-00003"


def test_the_reference_keeps_its_distance(prepared: Prepare) -> None:
    dataset = prepared(reference_margin=5)
    begins = {"a-00000": 0, "a-00012": 12}
    for epoch in range(12):
        for index in range(len(dataset)):
            clip, first, last, reference, other, _ = places(dataset[epoch, index].key)
            away = begins[other] + reference - begins[clip]
            assert away <= first - 5 or away >= last + 5


def test_a_reference_may_be_kept_to_its_own_clip(prepared: Prepare) -> None:
    dataset = prepared(reference_from="clip")
    for epoch in range(8):
        key = dataset[epoch, 0].key
        assert places(key)[0] == places(key)[4]


def test_a_reference_shows_the_person(tmp_path: Path) -> None:
    data = make_prepared(tmp_path, clips_of_videos={"a.mp4": [(0, 12)]})
    path = data / "poses" / "a-00000.npz"
    poses = PoseSequence.load(path)
    scores = poses.scores.copy()
    scores[[n for n in range(12) if n != 7]] = 0
    PoseSequence(poses.points, scores, poses.height, poses.width, poses.fps).save(path)
    dataset = build_dataset(build(DataSettings, {"path": str(data), **TINY}), split="train", seed=0)
    assert {places(dataset[epoch, 0].key)[3] for epoch in range(10)} == {7}


def test_maps_show_confidence_or_do_not() -> None:
    unsure = dancers(noise_strength=2.0)[0, 0].pose_maps
    binary = dancers(noise_strength=2.0, confidence_maps=False)[0, 0].pose_maps
    assert int(binary.max()) == 255
    assert len(binary.unique()) < len(unsure.unique())


def test_a_hand_has_a_mask_above_its_threshold_alone() -> None:
    sure, unsure = (dancers(hand_threshold=level, noise_strength=0.0)[0, 0] for level in (0.1, 0.999))
    assert float(sure.masks["hands"].sum()) > 0
    assert float(unsure.masks["hands"].sum()) == 0
    assert float(unsure.masks["face"].sum()) > 0


def test_fast_videos_take_every_second_frame(prepared: Prepare) -> None:
    dataset = prepared()
    info = dataset.source.infos[0]
    assert dataset._offsets(info).tolist() == [0, 1, 2]
    from dataclasses import replace

    assert dataset._offsets(replace(info, fps=60.0)).tolist() == [0, 2, 4]


def test_short_clips_are_counted_and_too_many_of_them_are_an_error(prepared: Prepare) -> None:
    dataset = prepared(num_frames=5)
    assert (len(dataset), dataset.num_skipped) == (2, 1)
    with pytest.raises(
        ConfigError, match="none of the 3 train clips is long enough: the longest, a-00000, has 10"
    ):
        prepared(num_frames=11)
    with pytest.raises(ConfigError, match="the reference 30 away"):
        prepared(reference_margin=30)
    with pytest.raises(ConfigError, match="8 frames; 16 at stride 1"):
        dancers(num_frames=16)


def test_files_that_are_gone_are_told_at_the_start(tmp_path: Path) -> None:
    data = make_prepared(tmp_path, clips_of_videos={"a.mp4": [(0, 6)], "b.mp4": [(0, 6)]})
    settings = build(DataSettings, {"path": str(data), **TINY})
    (data / "poses" / "b-00000.npz").unlink()
    with pytest.raises(DataError, match=r"1 of 2 files of poses are gone, .*b-00000\.npz"):
        build_dataset(settings, split="train", seed=0)
    (tmp_path / "videos" / "a.mp4").unlink()
    with pytest.raises(DataError, match=r"1 of 2 videos are gone, .*a\.mp4"):
        build_dataset(settings, split="train", seed=0)
    with pytest.raises(ConfigError, match="there are no val clips"):
        make_prepared(tmp_path / "again", clips_of_videos={"a.mp4": [(0, 6)]})
        build_dataset(
            build(DataSettings, {"path": str(tmp_path / "again" / "DATA"), **TINY}), split="val", seed=0
        )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({}, "source is prepared, but there is no path"),
        ({"source": "synthetic", "path": "DATA"}, "path has no effect with source: synthetic"),
        ({"path": "DATA", "num_frames": 2, "references": 4}, "references is 4; a sample has 3 pictures"),
        ({"path": "DATA", "world": "rich"}, "world has no effect with source: prepared; leave it out"),
        (
            {"path": "DATA", "world": "rich", "fps": 8.0},
            "have no effect with source: prepared; leave them out",
        ),
        ({"path": "DATA", "height": 60}, "height is 60; expected a multiple of latent_downscale, 8"),
        ({"path": "DATA", "zoom": [0.5, 1]}, r"zoom is \[0.5, 1.0\]; expected two factors"),
        ({"path": "DATA", "zom": 1}, "zom is not a setting; did you mean zoom"),
        ({"path": "DATA", "regions": ["feet"]}, "regions.*feet"),
    ],
)
def test_settings_that_cannot_be_are_told(content: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        build(DataSettings, content)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        build(DataSettings, DANCERS).height = 8  # type: ignore[misc]


def test_person_crops_follow_the_person(tmp_path: Path) -> None:
    data = make_prepared(tmp_path, clips_of_videos={"a.mp4": [(0, 6)]}, height=48, width=160)
    path = data / "poses" / "a-00000.npz"
    poses = PoseSequence.load(path)
    moved = np.clip(poses.points + np.array([0.3, 0.0]), 0, 1)
    PoseSequence(moved, poses.scores, poses.height, poses.width, poses.fps).save(path)
    content = {"path": str(data), **TINY}
    middle, person = (
        build_dataset(build(DataSettings, {**content, "crop": crop}), split="train", seed=0)
        for crop in ("centre", "person")
    )
    left = [ds._geometry(0, zoom=0.0, place=(0.5, 0.5), is_flipped=False).left for ds in (middle, person)]
    assert left[0] == 56
    assert 56 + 40 < left[1] <= 112


def test_clips_have_the_size_of_the_nearest_aspect_ratio_and_share_batches_by_size(tmp_path: Path) -> None:
    landscape = make_prepared(tmp_path / "wide", clips_of_videos={"a.mp4": [(0, 6)]}, height=48, width=80)
    content = {"height": 64, "width": 32, "num_frames": 3, "stride": 1, "canvas_short_side": 128}
    sizes = {"sizes": [[32, 64], [48, 48]]}
    one = build(DataSettings, {"path": str(landscape), **content})
    assert build_dataset(one, split="train", seed=0)[0, 0].frames.shape[-2:] == (64, 32)
    dataset = build_dataset(
        build(DataSettings, {"path": str(landscape), **content, **sizes}), split="train", seed=0
    )
    sample = dataset[0, 0]
    assert (sample.height, sample.width) == (32, 64)
    assert sample.frames.shape[-2:] == sample.reference.shape[-2:] == (32, 64)
    assert sample.masks["hands"].shape[-2:] == (4, 8)
    assert dataset.buckets == [[0]]
    ((_, geometry),) = dataset.cuts()
    assert (geometry.height, geometry.width) == (32, 64)
    assert geometry.box_width * geometry.box_height > 0.8 * 48 * 80, "nearly all of the picture"
    for wrong, sentence in (([[60, 33]], "sizes has"), ([[64, 32]], "name each once")):
        with pytest.raises(ConfigError, match=sentence):
            build(DataSettings, {"path": "x", **content, "sizes": wrong})
    with pytest.raises(ConfigError, match="sizes has no effect with source: synthetic"):
        build(DataSettings, {"source": "synthetic", **content, **sizes})
