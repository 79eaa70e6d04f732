"""A cache gives what encoding would give, and nothing once anything has changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mimic.config.loading import ConfigError, build
from mimic.data.batch import EncodedBatch, EncodedSample, Sample, collate
from mimic.data.cache import CacheError, EncodingCache, weights_digest
from mimic.data.dataset import ClipDataset, DataSettings, build_dataset
from mimic.data.transforms import as_pixels
from mimic.families.registry import load_task, trained_families
from tests.mimic.data.prepared import make_prepared

TINY = {"height": 32, "width": 32, "num_frames": 3, "stride": 1, "canvas_short_side": 128}


class Encoders:
    """One layer in place of a VAE, and a mean colour in place of an image encoder."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 4, 8, stride=8)
        self.num_encoded = 0

    @torch.no_grad()
    def latents(self, pictures: Tensor) -> Tensor:
        return torch.cat([self.layer(picture[None]) for picture in pictures])

    def __call__(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        self.num_encoded += len(pictures)
        return self.latents(pictures), pictures.mean((2, 3))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_prepared(tmp_path, clips_of_videos={"a.mp4": [(0, 5), (6, 4)]})


def dataset_of(data: Path, **changes: object) -> ClipDataset:
    return build_dataset(build(DataSettings, {"path": str(data), **TINY, **changes}), split="train", seed=0)


def cache_of(data: Path, weights: str = "these") -> EncodingCache:
    return EncodingCache(data / "cache", weights=weights)


def test_cached_samples_bring_what_encoding_gives(data: Path) -> None:
    encode, dataset, cache = Encoders(), dataset_of(data, flip=True), cache_of(data)
    assert cache.fill(dataset, encode, frames_at_once=2) == 4  # two clips, each also mirrored
    assert encode.num_encoded == 18
    cached = dataset.with_cache(cache)
    keys = set()
    for epoch in range(6):
        for index in range(2):
            sample, plain = cached[epoch, index], dataset[epoch, index]
            assert isinstance(sample, EncodedSample)
            assert isinstance(plain, Sample)
            keys.add(sample.key)
            assert sample.key == plain.key
            assert torch.equal(sample.pose_maps, plain.pose_maps)
            reference = as_pixels(plain.reference)
            fresh = encode.latents(torch.cat([reference[None], as_pixels(plain.frames)]))
            torch.testing.assert_close(sample.latents, fresh[1:], rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(sample.reference_latents, fresh[0], rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(sample.image_embedding, reference.mean((1, 2)))
    assert any("mirrored" in key for key in keys)
    assert any("mirrored" not in key for key in keys)


@pytest.mark.parametrize("family", trained_families())
def test_it_holds_what_each_family_encodes(data: Path, family: str) -> None:
    kind = load_task(family)
    task = kind.from_pipeline(
        kind.tiny_pipeline(height=32, width=32, seed=0), build(kind.Settings, {}, "objective")
    )
    settings = build(DataSettings, {"path": str(data), **TINY, "latent_downscale": 4})
    dataset = build_dataset(settings, split="train", seed=0)
    cache = EncodingCache(data / "cache", weights=weights_digest(task.frozen))
    cache.fill(dataset, task.encode_pictures)
    cached = dataset.with_cache(cache)
    kept = collate([cached[3, index] for index in range(2)])
    made = task.encode(collate([dataset[3, index] for index in range(2)]))
    assert isinstance(kept, EncodedBatch)
    assert kept.reference is None
    assert kept.latents.shape[2:] == (task.pipeline().vae.config.latent_channels, 8, 8)
    for name in ("latents", "reference_latents", "image_embedding"):
        of_cache, fresh = getattr(kept, name), getattr(made, name)
        torch.testing.assert_close(of_cache, fresh, rtol=1e-4, atol=1e-5)


def test_nothing_is_encoded_twice_and_ranks_share_the_work(data: Path) -> None:
    encode, dataset, cache = Encoders(), dataset_of(data, flip=True), cache_of(data)
    assert [cache.fill(dataset, encode, rank=rank, num_ranks=2) for rank in (0, 1)] == [2, 2]
    assert encode.num_encoded == 18
    assert cache.fill(dataset, encode) == 0
    assert encode.num_encoded == 18


def test_with_a_cache_no_picture_is_decoded_unless_the_objective_needs_one(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, dataset, cache = Encoders(), dataset_of(data), cache_of(data)
    cache.fill(dataset, encode)
    pixels = dataset[0, 0].reference
    read = []
    load = type(dataset.source).load
    monkeypatch.setattr(type(dataset.source), "load", lambda *a: read.append(a[2]) or load(*a))
    cached = dataset.with_cache(cache)
    sample = cached[0, 0]
    assert read == []
    assert sample.reference is None
    raw, kept = (dataset[0, 0].num_bytes, sample.num_bytes)
    assert kept < 0.6 * raw
    read.clear()
    with_reference = dataset.with_cache(cache, keeps_reference=True)[0, 0]
    assert [len(frames) for frames in read] == [1], "the reference's alone"
    assert torch.equal(with_reference.reference, pixels)


@pytest.mark.parametrize("what", ["weights", "size", "crop", "file", "time"])
def test_what_has_changed_is_not_found(data: Path, what: str) -> None:
    cache_of(data).fill(dataset_of(data), Encoders())
    cache, changes = cache_of(data), {}
    video = data.parent / "videos" / "a.mp4"
    if what == "weights":
        cache = cache_of(data, weights="others")
    elif what == "size":
        changes = {"height": 40}
    elif what == "crop":
        changes = {"zoom": [1.2, 1.2]}
    elif what == "file":
        state = video.stat()
        content = bytearray(video.read_bytes())
        content[-1] ^= 1
        video.write_bytes(content)
        os.utime(video, ns=(state.st_atime_ns, state.st_mtime_ns))
    else:
        os.utime(video)
    dataset = dataset_of(data, **changes)
    with pytest.raises(CacheError, match="lacks a-00000 with the current crop and weights"):
        dataset.with_cache(cache)[0, 0]


def test_a_damaged_file_is_told(data: Path) -> None:
    dataset, cache = dataset_of(data), cache_of(data)
    cache.fill(dataset, Encoders())
    for path in (data / "cache").rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CacheError, match="is damaged"):
        dataset.with_cache(cache)[0, 0]


def test_a_cache_that_cannot_be_written_is_one_sentence(data: Path) -> None:
    (data / "cache").write_text("in the way")
    with pytest.raises(CacheError, match=r"cache cannot be written: .*memory\.cache to another folder"):
        cache_of(data).fill(dataset_of(data), Encoders())


def test_an_interrupted_encoding_leaves_no_file(data: Path) -> None:
    class Failing(Encoders):
        def __call__(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
            if self.num_encoded >= 4:
                raise KeyboardInterrupt
            return super().__call__(pictures)

    dataset, cache = dataset_of(data), cache_of(data)
    with pytest.raises(KeyboardInterrupt):
        cache.fill(dataset, Failing(), frames_at_once=2)
    assert not list((data / "cache").rglob("*.safetensors"))
    assert cache.fill(dataset, Encoders()) == 2


def test_what_is_cut_at_random_cannot_be_kept(data: Path) -> None:
    for changes in ({"crop": "random"}, {"zoom": [1.0, 1.2]}):
        with pytest.raises(ConfigError, match="samples are cropped at random"):
            dataset_of(data, **changes).with_cache(cache_of(data))
    with pytest.raises(ConfigError, match="use reference_from: clip"):
        dataset_of(data, crop="person").with_cache(cache_of(data))
    dataset_of(data, crop="person", reference_from="clip").with_cache(cache_of(data))


def test_a_digest_follows_every_weight_and_the_dtype() -> None:
    layer = nn.Linear(3, 2)
    before = weights_digest({"vae": layer})
    assert weights_digest({"vae": layer}) == before
    assert weights_digest({"image_encoder": layer}) != before
    assert weights_digest({"vae": nn.Linear(3, 2).half()}) != before
    with torch.no_grad():
        layer.bias[1] += 1e-6
    assert weights_digest({"vae": layer}) != before
