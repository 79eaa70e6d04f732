"""Load the released MimicMotion checkpoint: its key layout, parts of the base model.

A checkpoint is one flat dict with ``unet.*`` and ``pose_net.*``. A checkpoint of the whole model, which also
has ``vae.*`` and ``image_encoder.*``, is accepted as well; these then replace the base's. The base may be a
complete MimicMotion folder; of its UNet and PoseNet only the configs are used.
"""

from __future__ import annotations

import os
from typing import Any

import torch

from mimic.families.stable_video_diffusion import check_base, load_base
from mimic.models.pose_net import PoseNet
from mimic.models.svd_unet import PoseConditionedSVDUNet
from mimic.weights.parts import POSITION_IDS, loading
from mimic.weights.sources import resolve, resolve_checkpoint
from mimic.weights.strict import load_strictly, read_state, without_prefixes

_OF_THE_BASE = ("vae", "image_encoder")


@loading()
def load_released(
    base: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str],
    *,
    dtype: torch.dtype,
    variant: str | None = None,
    local_files_only: bool = False,
) -> dict[str, Any]:
    """Load the components of a `MimicMotionPipeline` by name; see `MimicMotionPipeline.from_original`."""
    checkpoint = resolve_checkpoint(checkpoint, local_files_only=local_files_only)
    base = resolve(base, checkpoint=checkpoint, variant=variant, local_files_only=local_files_only)
    check_base(base, variant)
    state = without_prefixes(read_state(checkpoint, dtype=dtype), "module.", source=checkpoint)
    of_pose_net = base / "pose_net"
    unet, pose_net = build_on_meta(
        PoseConditionedSVDUNet.load_config(base, subfolder="unet"),
        PoseNet.load_config(of_pose_net) if (of_pose_net / "config.json").is_file() else None,
    )
    rest = {key: state.pop(key) for key in list(state) if key.split(".")[0] in _OF_THE_BASE}
    load_strictly({"unet.": unet, "pose_net.": pose_net}, state, source=checkpoint, dtype=dtype)
    del state  # the file's pages need no memory while the base is read
    parts = {
        "unet": unet.eval(),
        "pose_net": pose_net.eval(),
        **load_base(base, dtype=dtype, variant=variant),
    }
    whole = {f"{name}.": parts[name] for name in _OF_THE_BASE if any(key.startswith(name) for key in rest)}
    optional = [key for key in rest if key.endswith(POSITION_IDS)]
    load_strictly(whole, rest, source=checkpoint, optional=optional, dtype=dtype)
    return parts


def build_on_meta(
    unet_config: dict[str, Any], pose_net_config: dict[str, Any] | None = None
) -> tuple[PoseConditionedSVDUNet, PoseNet]:
    """Build UNet and PoseNet on the meta device, with shapes but without memory.

    Args:
        unet_config: config of the base model's UNet.
        pose_net_config: config of the PoseNet of a MimicMotion folder; None is that of the released PoseNet.
    """
    with torch.device("meta"):
        unet = PoseConditionedSVDUNet.from_config(unet_config)
        if pose_net_config is not None:
            return unet, PoseNet.from_config(pose_net_config)
        return unet, PoseNet(noise_latent_channels=unet.config.block_out_channels[0])
