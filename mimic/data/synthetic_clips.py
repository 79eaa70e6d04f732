"""Synthetic dancers as a source of clips, which are rendered on demand."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimic.dancers import (
    Character,
    Motion,
    RenderedClip,
    World,
    add_detector_noise,
    render,
    sample_character,
    sample_motion,
)
from mimic.data.clips import ClipInfo
from mimic.data.settings import DataSettings
from pose import PoseSequence

_SPLITS = {"train": 0, "val": 1}
_KEPT = 512  # dancers kept in memory; they are a few kilobytes each


class SyntheticClips:
    """`num_clips` synthetic dancers, rendered at the size of the samples; validation has different dancers.

    Args:
        settings: of the data.
        split: ``train`` or ``val``.
    """

    def __init__(self, settings: DataSettings, split: str) -> None:
        self._settings = settings
        self._split = split
        self._identities: dict[int, str] = {}
        self._dancers: OrderedDict[int, tuple[Character, Motion]] = OrderedDict()
        self._last: tuple[tuple[int, ...], RenderedClip] | None = None
        num_frames = max(1, round(settings.seconds * settings.fps))
        num_clips = settings.num_clips if split == "train" else settings.num_val_clips
        self.infos: Sequence[ClipInfo] = [
            ClipInfo(
                name=f"dancer-{settings.dancer_seed}-{split}-{number:04d}",
                video=str(number),
                first_frame=0,
                num_frames=num_frames,
                fps=settings.fps,
                height=settings.height,
                width=settings.width,
            )
            for number in range(num_clips)
        ]

    def poses(self, clip: int) -> PoseSequence | None:
        """Return None; the visibility of joints is only known after rendering."""
        return None

    def load(
        self, clip: int, frames: Sequence[int], rng: np.random.Generator
    ) -> tuple[list[NDArray[np.uint8]], PoseSequence]:
        """See `ClipSource`; detector noise, if any, is drawn from `rng` as for consecutive frames."""
        settings = self._settings
        rendered = self.render(clip, frames)
        self._last = (clip, *frames), rendered
        poses, strength = rendered.poses, settings.noise_strength
        if strength > 0:
            poses = add_detector_noise(
                poses, rng, strength=strength * (rng.uniform() if settings.noise_varies else 1.0)
            )
        return list(rendered.frames), poses

    def parts(self, clip: int, frames: Sequence[int]) -> list[NDArray[np.uint8]]:
        """See `ClipSource`; parts are exact, and the frames loaded last are not rendered again."""
        if self._last is None or self._last[0] != (clip, *frames):
            self._last = (clip, *frames), self.render(clip, frames)
        return list(self._last[1].densepose_ids)

    def render(self, clip: int, frames: Sequence[int]) -> RenderedClip:
        """Render frames of a dancer, with their exact poses and all other annotations."""
        settings = self._settings
        character, motion = self._dancer(clip)
        times = np.asarray(frames, float) / settings.fps
        return render(
            character,
            motion,
            times,
            settings.height,
            settings.width,
            supersample=settings.supersample,
            fps=settings.fps,
        )

    def identity(self, clip: int) -> str:
        """See `ClipSource`; a hash of some rendered frames, so that it also changes with the renderer."""
        if clip not in self._identities:
            num_frames = self.infos[clip].num_frames
            shown = self.render(clip, [0, num_frames // 2, num_frames - 1]).frames
            settings = self._settings
            text = f"{settings.seconds} {settings.fps} {settings.supersample} ".encode()
            self._identities[clip] = hashlib.sha256(text + shown.tobytes()).hexdigest()
        return self._identities[clip]

    def _dancer(self, clip: int) -> tuple[Character, Motion]:
        if clip not in self._dancers:
            settings = self._settings
            world = World.named(settings.world)
            rng = np.random.default_rng([settings.dancer_seed, _SPLITS[self._split], clip])
            self._dancers[clip] = (
                sample_character(rng, world),
                sample_motion(rng, world, duration_s=settings.seconds),
            )
            if len(self._dancers) > _KEPT:
                self._dancers.popitem(last=False)
        return self._dancers[clip]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_dancers": OrderedDict(), "_identities": {}, "_last": None}
