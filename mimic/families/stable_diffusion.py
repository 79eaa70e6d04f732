"""Shared loading code of families based on Stable Diffusion 1.5: schedule, networks, number of positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mimic.models.motion_unet import MotionUNet
from mimic.models.reference_unet import ReferenceUNet
from mimic.weights.strict import WeightsError

SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "linear",
    "clip_sample": False,
    "steps_offset": 1,
}
"""Arguments of `DDIMScheduler` that the released configurations share."""

VAE_FILES = ("*.json", "*.safetensors", "vae/*")
"""Patterns of a VAE's files in a hub repository, at the top level or in ``vae/``."""

_UNET_KEYS = (
    "block_out_channels",
    "layers_per_block",
    "norm_num_groups",
    "cross_attention_dim",
    "sample_size",
)


def motion_unet(config: Mapping[str, Any], *, num_positions: int, **own: Any) -> MotionUNet:
    """Build the denoising UNet with temporal layers from a config of Stable Diffusion's
    `UNet2DConditionModel`.

    Args:
        config: of the `UNet2DConditionModel`.
        num_positions: number of positions along time that the temporal layers encode.
        own: further arguments of `MotionUNet`, specific to the family.
    """
    down, up = (
        tuple(kind.replace("2D", "Motion") for kind in config[f"{way}_block_types"]) for way in ("down", "up")
    )
    return MotionUNet(
        **_common(config),
        down_block_types=down,
        up_block_types=up,
        motion_max_seq_length=num_positions,
        **own,
    )


def reference_unet(config: Mapping[str, Any], **own: Any) -> ReferenceUNet:
    """Build the reference network from a `UNet2DConditionModel` config; `own` are further arguments of
    `ReferenceUNet`, specific to the family."""
    down, up = (tuple(config[f"{way}_block_types"]) for way in ("down", "up"))
    return ReferenceUNet(**_common(config), down_block_types=down, up_block_types=up, **own)


def _common(config: Mapping[str, Any]) -> dict[str, Any]:
    """Select the arguments of a Stable Diffusion config that our networks share."""
    given = {key: config[key] for key in _UNET_KEYS if key in config}
    given["block_out_channels"] = tuple(given["block_out_channels"])
    # In SD 1.5 configs, the number of heads is called attention_head_dim.
    return given | {"num_attention_heads": config.get("num_attention_heads") or config["attention_head_dim"]}


def num_positions(state: Mapping[str, Tensor], *, source: object) -> int:
    """Read the number of positions along time from the motion modules' position tables.

    Args:
        state: tensors under diffusers' keys.
        source: named in error messages.

    Raises:
        WeightsError: there is no table, or their lengths differ (a `ValueError`).
    """
    lengths = {tensor.shape[1] for key, tensor in state.items() if key.endswith("pos_embed.pe")}
    if len(lengths) != 1:
        raise WeightsError(
            f"{source} has position tables of lengths {sorted(lengths)}; expected exactly one length."
        )
    return lengths.pop()
