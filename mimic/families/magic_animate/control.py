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


@dataclass(frozen=True)
class Residuals:
    """Outputs of the ControlNet, added to the UNet's skip connections and middle block; ``f x …`` each."""

    down: tuple[Tensor, ...]
    mid: Tensor

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (*self.down, self.mid))


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
        budget_bytes: device memory for cached residuals, in bytes.
    """

    def __init__(
        self,
        controlnet: ControlNetModel,
        pose_maps: MapDrawer,
        prompt_1LD: Tensor,
        *,
        windows: Sequence[Sequence[int]],
        scale: float = 1.0,
        budget_bytes: int,
    ) -> None:
        self.num_made = 0
        """Number of frames computed so far."""
        self._controlnet, self._maps, self._prompt, self._scale = controlnet, pose_maps, prompt_1LD, scale
        self._last_use = {frame: i for i, window in enumerate(windows) for frame in window}
        self._windows = {tuple(window): i for i, window in enumerate(windows)}
        self._budget_bytes = budget_bytes
        self._kept: dict[int, Residuals] = {}
        self._kept_bytes = 0
        self._step: Tensor | None = None

    def with_text(self, prompt_1LD: Tensor) -> ControlResiduals:
        """Return residuals of the same maps with another text embedding; nothing is cached in them yet."""
        other = copy.copy(self)
        other._prompt, other._step = prompt_1LD, None
        return other

    def __call__(self, latents_fChw: Tensor, t: Tensor, frames: list[int]) -> Residuals:
        """Return the residuals of a window's frames at timestep `t`, given their scaled noisy latents."""
        if self._step is None or not torch.equal(self._step, t):
            self._step, self._kept, self._kept_bytes = t, {}, 0
        number = self._windows[tuple(frames)]
        of_frames = []
        for place, frame in enumerate(frames):
            found = self._kept.get(frame)
            if found is None:
                found = self._make(latents_fChw[place : place + 1], t, frame)
            if self._last_use[frame] > number:
                self._keep(frame, found)
            else:
                self._forget(frame)
            of_frames.append(found)
        down = tuple(torch.cat(parts) for parts in zip(*(each.down for each in of_frames)))
        return Residuals(down, torch.cat([each.mid for each in of_frames]))

    def _make(self, latents_1Chw: Tensor, t: Tensor, frame: int) -> Residuals:
        """Compute the residuals of one frame alone, so that they do not depend on the window it is in."""
        device, dtype = self._prompt.device, self._controlnet.dtype
        # Our maps are in [-1, 1]; the released ControlNet was trained on maps in [0, 1].
        drawn = as_pose_tensor(self._maps([frame])).to(device, dtype) / 2 + 0.5
        down, mid = self._controlnet(
            latents_1Chw.to(dtype),
            t,
            encoder_hidden_states=self._prompt.to(dtype),
            controlnet_cond=drawn,
            conditioning_scale=self._scale,
            return_dict=False,
        )
        self.num_made += 1
        return Residuals(tuple(down), mid)

    def _keep(self, frame: int, residuals: Residuals) -> None:
        if frame not in self._kept and self._kept_bytes + residuals.nbytes <= self._budget_bytes:
            self._kept[frame] = residuals
            self._kept_bytes += residuals.nbytes

    def _forget(self, frame: int) -> None:
        known = self._kept.pop(frame, None)
        if known is not None:
            self._kept_bytes -= known.nbytes
