"""Residuals of the ControlNet, computed once per frame and step and shared by overlapping windows.

MagicAnimate runs its ControlNet once per frame and step, with the conditional text alone; both halves of
guidance and all windows that hold a frame use the same residuals.

Legend: B batch, f frames of a window, C latent channels, H height, W width; h, w of latents; L tokens of the
text, D their width.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import ControlNetModel
from torch import Tensor

from mimic.data.pose_maps import MapDrawer, as_pose_tensor
from mimic.models.deep_features import Budget


@dataclass(frozen=True)
class Residuals:
    """Outputs of the ControlNet, added to the UNet's skip connections and middle block; ``f x …`` each."""

    down: tuple[Tensor, ...]
    mid: Tensor

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (*self.down, self.mid))

    def repeated(self, num: int) -> Residuals:
        """The residuals for `num` videos that share them."""
        if num == 1:
            return self
        return Residuals(tuple(torch.cat([part] * num) for part in self.down), torch.cat([self.mid] * num))


class ControlResiduals:
    """Computes the residuals for the windows of one video.

    At full size they are 13 MB a frame in float16. Residuals of frames that a later window of the same step
    needs again are cached up to a budget; beyond it they are recomputed.

    Args:
        controlnet: diffusers' `ControlNetModel`, which takes RGB pictures in [0, 1].
        pose_maps: function that draws the maps of given frames.
        prompt_1LD: embedding of the conditional text, ``1 x L x D``.
        windows: frame indices of all windows of a step, in order.
        scale: factor of the residuals.
        frames_at_a_time: number of frames computed in one call; with 1, the residuals of a frame do not
            depend on the window it is in, not even by rounding.
        budget_bytes: device memory for cached residuals, in bytes.
        map_budget_bytes: device memory for maps that are kept between steps, in bytes. Those of further
            frames are drawn and copied to the device at every step.
    """

    def __init__(
        self,
        controlnet: ControlNetModel,
        pose_maps: MapDrawer,
        prompt_1LD: Tensor,
        *,
        windows: Sequence[Sequence[int]],
        scale: float = 1.0,
        frames_at_a_time: int = 1,
        budget_bytes: int,
        map_budget_bytes: int = 0,
    ) -> None:
        self.num_made = 0
        """Number of frames computed so far."""
        self._controlnet, self._maps, self._prompt, self._scale = controlnet, pose_maps, prompt_1LD, scale
        self._last_use = {frame: i for i, window in enumerate(windows) for frame in window}
        self._windows = {tuple(window): i for i, window in enumerate(windows)}
        self._frames_at_a_time = frames_at_a_time
        self._budget_bytes = budget_bytes
        self._kept: dict[int, Residuals] = {}
        self._kept_bytes = 0
        self._map_budget = Budget(map_budget_bytes)
        self._drawn: dict[int, Tensor] = {}
        self._step: Tensor | None = None
        self._last: tuple[list[int], Residuals] | None = None

    def with_text(self, prompt_1LD: Tensor) -> ControlResiduals:
        """Return residuals of the same maps with another text embedding; nothing is cached in them yet."""
        other = copy.copy(self)
        other._prompt, other._step, other._last = prompt_1LD, None, None
        return other

    def __call__(self, latents_fChw: Tensor, t: Tensor, frames: list[int]) -> Residuals:
        """Return the residuals of a window's frames at timestep `t`, given their scaled noisy latents.

        Those of the last window are kept until the next one, for the other branch of guidance.
        """
        if self._step is not t:  # compared without waiting for the device
            self._step, self._kept, self._kept_bytes, self._last = t, {}, 0, None
        if self._last is not None and self._last[0] == frames:
            return self._last[1]
        self._last = None
        number = self._windows[tuple(frames)]
        missing = [place for place, frame in enumerate(frames) if frame not in self._kept]
        made: dict[int, Residuals] = {}
        for start in range(0, len(missing), self._frames_at_a_time):
            places = missing[start : start + self._frames_at_a_time]
            latents = torch.cat([latents_fChw[place : place + 1] for place in places])
            made |= self._make(latents, t, [frames[place] for place in places])
        of_frames = [made[frame] if frame in made else self._kept[frame] for frame in frames]
        for frame, found in zip(frames, of_frames):
            if self._last_use[frame] > number:
                self._keep(frame, found)
            else:
                self._forget(frame)
        down = tuple(torch.cat(parts) for parts in zip(*(each.down for each in of_frames)))
        self._last = frames, Residuals(down, torch.cat([each.mid for each in of_frames]))
        return self._last[1]

    def _make(self, latents_fChw: Tensor, t: Tensor, frames: list[int]) -> dict[int, Residuals]:
        """Compute the residuals of some frames, by frame."""
        dtype = self._controlnet.dtype
        down, mid = self._controlnet(
            latents_fChw.to(dtype),
            t,
            encoder_hidden_states=self._prompt.to(dtype).expand(len(frames), -1, -1),
            controlnet_cond=self._maps_of(frames),
            conditioning_scale=self._scale,
            return_dict=False,
        )
        self.num_made += len(frames)
        if len(frames) == 1:
            return {frames[0]: Residuals(tuple(down), mid)}
        # Copies, so that a kept frame does not keep the others' memory.
        parts = zip(*(part.split(1) for part in (*down, mid)))
        return {
            frame: Residuals(tuple(each.clone() for each in own[:-1]), own[-1].clone())
            for frame, own in zip(frames, parts)
        }

    def _maps_of(self, frames: list[int]) -> Tensor:
        """Return the maps of some frames on the device, ``f x 3 x H x W`` in [0, 1]."""
        missing = [frame for frame in frames if frame not in self._drawn]
        made: dict[int, Tensor] = {}
        if missing:
            drawn = as_pose_tensor(self._maps(missing)).to(self._prompt.device, self._controlnet.dtype)
            # Our maps are in [-1, 1]; the released ControlNet was trained on maps in [0, 1].
            made = dict(zip(missing, (drawn / 2 + 0.5).split(1)))
        maps = torch.cat([made[frame] if frame in made else self._drawn[frame] for frame in frames])
        for frame, own in made.items():
            if self._map_budget.used + own.nbytes <= self._map_budget.limit:
                self._map_budget.used += own.nbytes
                self._drawn[frame] = own.clone()  # so that it does not keep the others' memory
        return maps

    def _keep(self, frame: int, residuals: Residuals) -> None:
        if frame not in self._kept and self._kept_bytes + residuals.nbytes <= self._budget_bytes:
            self._kept[frame] = residuals
            self._kept_bytes += residuals.nbytes

    def _forget(self, frame: int) -> None:
        known = self._kept.pop(frame, None)
        if known is not None:
            self._kept_bytes -= known.nbytes
