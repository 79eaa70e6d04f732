"""What loaders of families on Stable Diffusion 1.5 share: schedule, networks, number of positions."""

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
"""Of `DDIMScheduler`: what the released configurations have in common."""

VAE_FILES = ("*.json", "*.safetensors", "vae/*")
"""Patterns for the files of a VAE in a repository of the hub, at its top or in ``vae/``."""

_UNET_KEYS = (
    "block_out_channels",
    "layers_per_block",
    "norm_num_groups",
    "cross_attention_dim",
    "sample_size",
)


def motion_unet(config: Mapping[str, Any], *, num_positions: int, **own: Any) -> MotionUNet:
    """The denoising UNet with temporal layers, of a config of Stable Diffusion's `UNet2DConditionModel`.

    Args:
        num_positions: along time.
        own: the family's own arguments of `MotionUNet`.
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
    """The reference network of such a config; `own` are the family's own arguments of `ReferenceUNet`."""
    down, up = (tuple(config[f"{way}_block_types"]) for way in ("down", "up"))
    return ReferenceUNet(**_common(config), down_block_types=down, up_block_types=up, **own)


def _common(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that a Stable Diffusion config shares with our networks."""
    given = {key: config[key] for key in _UNET_KEYS if key in config}
    given["block_out_channels"] = tuple(given["block_out_channels"])
    # SD 1.5 calls the number of heads by this name.
    return given | {"num_attention_heads": config.get("num_attention_heads") or config["attention_head_dim"]}


def num_positions(state: Mapping[str, Tensor], *, source: object) -> int:
    """Number of positions along time in the tables of the motion modules, of diffusers' keys.

    Raises:
        WeightsError: there is no table, or they differ.
    """
    lengths = {tensor.shape[1] for key, tensor in state.items() if key.endswith("pos_embed.pe")}
    if len(lengths) != 1:
        raise WeightsError(
            f"{source} has tables of positions of the lengths {sorted(lengths)}; expected one length."
        )
    return lengths.pop()
