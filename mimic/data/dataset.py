"""The dataset of training samples: a window of frames of each clip, with a reference.

All random choices of a sample depend only on (seed, epoch, index), so results do not depend on the number of
workers or processes.

Legend: F frames of a sample, H height, W width.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
import torch.utils.data
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mimic.config.loading import ConfigError
from mimic.data.batch import AnySample, EncodedSample, Sample
from mimic.data.cache import EncodingCache
from mimic.data.clips import ClipInfo, ClipSource, PreparedClips
from mimic.data.crops import Geometry, choose_geometry, person_centre, shows_person
from mimic.data.masks import region_masks
from mimic.data.settings import DataSettings
from mimic.data.synthetic_clips import SyntheticClips
from mimic.data.transforms import as_bytes_F3HW
from mimic.video import released_stride
from pose import PoseSequence, draw_pose
from pose.densepose import densepose_palette, exchange_sides
from pose.types import concatenate

__all__ = ["ClipDataset", "DataSettings", "build_dataset"]

_REFERENCE_DRAWS = 32  # maximum number of draws to find a frame that shows the person


def build_dataset(settings: DataSettings, *, split: Literal["train", "val"], seed: int) -> ClipDataset:
    """Build the dataset of one split; validation is neither mirrored nor cropped at random.

    Args:
        settings: of the data.
        split: ``train`` or ``val``.
        seed: of all random choices.

    Raises:
        ConfigError: no clip can be used; the message says why (a `ValueError`).
        OSError: the prepared folder cannot be read.
    """
    source: ClipSource
    if settings.source == "synthetic":
        source = SyntheticClips(settings, split)
    else:
        source = PreparedClips(settings, split)
    return ClipDataset(source, settings, split=split, seed=seed)


class ClipDataset(Dataset[AnySample]):
    """Dataset whose item ``dataset[(epoch, index)]`` is a `Sample`, or an `EncodedSample` with a cache; clips
    that are too short have no index.

    Args:
        source: the clips.
        settings: of the data.
        split: ``train`` or ``val``.
        seed: of all random choices.

    Raises:
        ConfigError: no clip is long enough (a `ValueError`).
    """

    def __init__(
        self, source: ClipSource, settings: DataSettings, *, split: Literal["train", "val"], seed: int
    ) -> None:
        self.source = source
        self.settings = settings
        self.split = split
        self.seed = seed
        self._cache: EncodingCache | None = None
        self._keeps_reference = False
        self._siblings = _siblings(source.infos, settings.reference_from)
        self.clips = [clip for clip in range(len(source.infos)) if len(self._starts(clip))]
        """Indices of the clips that are long enough, in order."""
        self.num_skipped = len(source.infos) - len(self.clips)
        """Number of clips that are too short."""
        if not self.clips:
            raise ConfigError(self._why_none_serves())
        by_size: dict[tuple[int, int], list[int]] = {size: [] for size in settings.all_sizes}
        for index, clip in enumerate(self.clips):
            by_size[self.size_of(clip)].append(index)
        self.buckets = [indices for indices in by_size.values() if indices]
        """The indices of samples by their size; a batch takes them from one of these."""

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, place: tuple[int, int]) -> AnySample:
        return self.with_poses(place)[0]

    def with_poses(self, place: tuple[int, int]) -> tuple[AnySample, PoseSequence]:
        """Return a sample and its poses, as fractions of the pictures: the reference's, then the frames'."""
        if torch.utils.data.get_worker_info() is not None:
            cv2.setNumThreads(1)  # the workers share the CPU cores
        epoch, index = place
        settings = self.settings
        rng = np.random.default_rng([self.seed, epoch, index])
        clip = self.clips[index]
        info = self.source.infos[clip]
        frames = rng.choice(self._starts(clip)) + self._offsets(info)
        geometry = self._geometry(
            clip, zoom=rng.uniform(), place=(rng.uniform(), rng.uniform()), is_flipped=rng.uniform() < 0.5
        )
        pictures, poses = self._load(clip, frames.tolist(), rng)
        parts = self._parts(clip, frames.tolist(), geometry)
        other, number, reference, reference_pose = self._reference(clip, frames, geometry, rng)
        poses = geometry.poses(concatenate([reference_pose, poses]))
        if parts is None:
            maps = draw_pose(
                poses,
                *self.size_of(clip),
                mode="confidence" if settings.confidence_maps else "binary",
                canvas_short_side=settings.canvas_short_side,
            )
        else:
            of_reference_parts = self._parts(other, [number], geometry)
            assert of_reference_parts is not None
            maps = np.concatenate([of_reference_parts, parts])
        shared: dict[str, Any] = {
            "pose_maps": as_bytes_F3HW(maps),
            "masks": self._masks(poses, self.size_of(clip)),
            "key": f"{info.name} frames {frames[0]} to {frames[-1]}, reference {number} of "
            f"{self.source.infos[other].name}{', mirrored' if geometry.is_flipped else ''}",
        }
        if self._cache is None:
            assert reference is not None
            assert pictures is not None
            cut = as_bytes_F3HW(geometry.pictures([reference, *pictures]))
            return Sample(frames=cut[1:], reference=cut[0], **shared), poses
        kept = None
        if self._keeps_reference:
            assert reference is not None
            kept = as_bytes_F3HW(geometry.picture(reference)[None])[0]
        latents, _ = self._cache.read(self, clip, geometry, frames.tolist())
        of_reference, embeddings = self._cache.read(self, other, geometry, [number])
        encoded = EncodedSample(
            latents=latents,
            reference_latents=of_reference[0],
            image_embedding=latents.new_empty(0) if embeddings is None else embeddings[0],
            reference=kept,
            **shared,
        )
        return encoded, poses

    def _load(
        self, clip: int, frames: list[int], rng: np.random.Generator, *, with_pictures: bool | None = None
    ) -> tuple[list[NDArray[np.uint8]] | None, PoseSequence]:
        """Read frames of a clip and their poses; with a cache, no pictures unless the source needs them for
        the poses."""
        if not (self._cache is None if with_pictures is None else with_pictures):
            poses = self.source.poses(clip)
            if poses is not None:
                return None, poses[frames]
        return self.source.load(clip, frames, rng)

    def _masks(self, poses: PoseSequence, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return the masks of all regions, for poses after cropping to a size (height, width)."""
        settings = self.settings
        return region_masks(
            poses,
            settings.regions,
            size[0] // settings.latent_downscale,
            size[1] // settings.latent_downscale,
            thresholds={
                "hands": settings.hand_threshold,
                "face": settings.face_threshold,
                "person": settings.person_threshold,
            },
            margin=settings.region_margin,
        )

    def size_of(self, clip: int) -> tuple[int, int]:
        """Return the size (height, width) of a clip's samples: that of the nearest aspect ratio."""
        info = self.source.infos[clip]
        aspect = math.log(info.height / info.width)
        return min(self.settings.all_sizes, key=lambda size: abs(math.log(size[0] / size[1]) - aspect))

    def _parts(self, clip: int, frames: Sequence[int], geometry: Geometry) -> NDArray[np.uint8] | None:
        """Return maps of body parts, uint8 ``F x H x W x 3``, after cropping; None for skeletons."""
        if self.settings.pose_kind == "skeleton":
            return None
        cut = np.stack([geometry.labels(ids) for ids in self.source.parts(clip, frames)])
        if geometry.is_flipped:
            cut = exchange_sides(cut)
        return densepose_palette()[cut]

    def with_cache(self, cache: EncodingCache, *, keeps_reference: bool = False) -> ClipDataset:
        """Return the same dataset with latents and embeddings, read from a filled cache, in place of pixels.

        Args:
            cache: the cache.
            keeps_reference: samples have the pixels of the reference as well.

        Raises:
            ConfigError: samples are cropped at random (a `ValueError`).
        """
        self.cuts()
        dataset = copy.copy(self)
        dataset._cache, dataset._keeps_reference = cache, keeps_reference
        return dataset

    def cuts(self) -> list[tuple[int, Geometry]]:
        """Return (clip, geometry) for all clips of samples and references and all their geometries.

        Raises:
            ConfigError: samples are cropped at random (a `ValueError`).
        """
        settings = self.settings
        check_cuts_repeat(settings.crop, settings.zoom, settings.reference_from, self.split)
        clips = sorted({sibling for clip in self.clips for sibling in self._siblings[clip]})
        flips = (False, True) if settings.flip and self.split == "train" else (False,)
        return [
            (clip, self._geometry(clip, zoom=0.0, place=(0.5, 0.5), is_flipped=is_flipped))
            for clip in clips
            for is_flipped in flips
        ]

    def _offsets(self, info: ClipInfo) -> NDArray[np.int64]:
        """Return the offsets of a window's frames from its first frame."""
        return np.arange(self.settings.num_frames) * released_stride(self.settings.stride, info.fps)

    def _starts(self, clip: int) -> NDArray[np.int64]:
        """Return the frames at which a window may start so that a reference far enough from it exists."""
        info, margin = self.source.infos[clip], self.settings.reference_margin
        span = int(self._offsets(info)[-1]) + 1
        starts = np.arange(max(0, info.num_frames - span + 1))
        family = [self.source.infos[sibling] for sibling in self._siblings[clip]]
        first = min(other.first_frame for other in family) - info.first_frame
        last = max(other.first_frame + other.num_frames - 1 for other in family) - info.first_frame
        return starts[(starts - margin >= first) | (starts + span - 1 + margin <= last)]

    def _geometry(self, clip: int, *, zoom: float, place: tuple[float, float], is_flipped: bool) -> Geometry:
        """Return the geometry of a clip; random numbers in [0, 1) are used as far as settings and split
        allow."""
        settings, info = self.settings, self.source.infos[clip]
        is_training = self.split == "train"
        poses = self.source.poses(clip) if settings.crop == "person" else None
        low, high = settings.zoom
        return choose_geometry(
            (info.height, info.width),
            self.size_of(clip),
            zoom=low + zoom * (high - low) if is_training else low,
            place=place if is_training and settings.crop == "random" else (0.5, 0.5),
            centre=None if poses is None else person_centre(poses),
            is_flipped=is_flipped and settings.flip and is_training,
        )

    def _reference(
        self, clip: int, frames: NDArray[np.int64], geometry: Geometry, rng: np.random.Generator
    ) -> tuple[int, int, NDArray[np.uint8] | None, PoseSequence]:
        """Draw a reference from the same video, preferably a frame that shows the person.

        Returns:
            index of its clip, index of the frame in the clip, the frame (None where it is not needed) and its
            pose.
        """
        infos, margin = self.source.infos, self.settings.reference_margin
        begin = infos[clip].first_frame
        first, last = int(frames[0]) + begin - margin, int(frames[-1]) + begin + margin
        choices: list[tuple[int, int, int]] = []  # clip, first place, number of places
        for sibling in self._siblings[clip]:
            start, end = infos[sibling].first_frame, infos[sibling].first_frame + infos[sibling].num_frames
            ranges = [(start, end)] if margin == 0 else [(start, first + 1), (last, end)]
            for lowest, highest in ranges:
                low, num = max(lowest, start), min(highest, end) - max(lowest, start)
                if num > 0:
                    choices.append((sibling, low - start, num))
        counts = np.array([count for _, _, count in choices])
        for _ in range(_REFERENCE_DRAWS):
            draw = int(rng.integers(counts.sum()))
            block = int(np.searchsorted(np.cumsum(counts), draw, side="right"))
            sibling, low, _ = choices[block]
            number = low + draw - int(counts[:block].sum())
            poses = self.source.poses(sibling)
            if poses is None or shows_person(geometry.poses(poses[number]))[0]:
                break
        is_needed = self._cache is None or self._keeps_reference
        pictures, pose = self._load(sibling, [number], rng, with_pictures=is_needed)
        return sibling, number, None if pictures is None else pictures[0], pose

    def _why_none_serves(self) -> str:
        infos, settings = self.source.infos, self.settings
        if not infos:
            return (
                f"there are no {self.split} clips in {settings.path}; prepare more videos or change val_share"
            )
        longest = max(infos, key=lambda info: info.num_frames)
        span = int(self._offsets(longest)[-1]) + 1
        margin = f" and the reference {settings.reference_margin} away" if settings.reference_margin else ""
        return (
            f"none of the {len(infos)} {self.split} clips is long enough: the longest, {longest.name}, has "
            f"{longest.num_frames} frames; {settings.num_frames} at stride {settings.stride} span {span} of "
            f"it{margin}. Use a smaller data.num_frames, data.stride or data.reference_margin, or longer "
            "clips"
        )


def _siblings(infos: Sequence[ClipInfo], reference_from: str) -> list[list[int]]:
    """Return for each clip the clips that its reference may come from, including itself."""
    if reference_from == "clip":
        return [[clip] for clip in range(len(infos))]
    by_video: dict[str, list[int]] = {}
    for clip, info in enumerate(infos):
        by_video.setdefault(info.video, []).append(clip)
    return [by_video[info.video] for info in infos]


def check_cuts_repeat(crop: str, zoom: tuple[float, float], reference_from: str, split: str) -> None:
    """Check that the geometry of a clip does not change from sample to sample.

    Raises:
        ConfigError: it changes; the message names the setting to change (a `ValueError`).
    """
    if split == "train" and (crop == "random" or zoom[0] != zoom[1]):
        raise ConfigError(
            f"crop is {crop} and zoom is {list(zoom)}: samples are cropped at random, so latents cannot be "
            "cached. For a cache of latents use crop: centre or person, and two equal numbers for zoom"
        )
    if crop == "person" and reference_from == "video":
        raise ConfigError(
            "with crop: person, a reference from another clip is cropped like its sample, so latents cannot "
            "be cached. For a cache of latents use reference_from: clip"
        )
