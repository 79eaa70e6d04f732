"""Features of a pose network for each window, computed on demand and cached up to a memory budget.

Legend: B batch, F frames, C the UNet's first width, H height, W width; h, w of latents.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mimic.data.pose_maps import MapDrawer, as_pose_tensor
from mimic.models.pose_guider import PaperPoseGuider, PoseGuider
from mimic.models.pose_net import PoseNet

PoseEncoder = PoseNet | PoseGuider | PaperPoseGuider

_FRAMES_AT_A_TIME = 8  # fixed, so that the numbers do not depend on the available memory


class PoseFeatures:
    """Computes and caches the features of `PoseNet` or a pose guider for windows of frames.

    Features are 6 MB a frame for 576 x 1024 in float16, too much to cache for a long clip and cheap to
    recompute. Windows are cached in order until the budget is used up, and the others are recomputed at each
    step. (Windows recur in the same order at every step, so a cache of the latest windows would never be
    hit.)

    Args:
        pose_net: the network; maps ``F x 3 x H x W`` to features ``F x C x h x w``.
        pose_maps: for each video, or for all, a function that draws the maps of given frames.
        device, dtype: device and precision of the network.
        budget_bytes: device memory for cached features, in bytes.
    """

    def __init__(
        self,
        pose_net: PoseEncoder,
        pose_maps: Sequence[MapDrawer],
        *,
        device: torch.device,
        dtype: torch.dtype,
        budget_bytes: int,
    ) -> None:
        self.kept_bytes = 0
        self.num_made = 0
        """Number of windows computed so far."""
        self._pose_net = pose_net
        self._pose_maps = pose_maps
        self._device, self._dtype = device, dtype
        self._budget_bytes = budget_bytes
        self._kept: dict[tuple[int, ...], Tensor] = {}

    @classmethod
    def of(
        cls,
        pose_net: PoseEncoder,
        pose_maps: Sequence[MapDrawer],
        *,
        device: torch.device,
        budget_mb: float,
    ) -> PoseFeatures | None:
        """Create the features of a run's maps in the network's precision; None without maps."""
        if not pose_maps:
            return None
        budget_bytes = int(budget_mb * 2**20)
        return cls(pose_net, pose_maps, device=device, dtype=pose_net.dtype, budget_bytes=budget_bytes)

    def __call__(self, frames: list[int], video: int = 0) -> Tensor:
        """Return the features ``1 x F x C x h x w`` of the given frames of a video; a single clip of poses is
        used for all videos."""
        clip = video % len(self._pose_maps)
        key = (clip, *frames)
        if key in self._kept:
            return self._kept[key]
        features = self._of(self._pose_maps[clip], frames)[None]
        self.num_made += 1
        if self.kept_bytes + features.nbytes <= self._budget_bytes:
            self._kept[key] = features
            self.kept_bytes += features.nbytes
        return features

    def _of(self, maps: MapDrawer, frames: list[int]) -> Tensor:
        parts = [frames[i : i + _FRAMES_AT_A_TIME] for i in range(0, len(frames), _FRAMES_AT_A_TIME)]
        drawn = (as_pose_tensor(maps(part)).to(self._device, self._dtype) for part in parts)
        return torch.cat([self._pose_net(pixels) for pixels in drawn])
