"""Checks of a pipeline's arguments, shared by all families and run before any expensive computation.

Each check raises `ValueError` that says what was found, what was expected and what to do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mimic.data.pose_maps import MapDrawer, as_pose_tensor
from mimic.sampling.noise import Generators
from pose.text import shown
from pose.video.source import MAX_SIDE


def check_known(name: str, value: str, known: Sequence[str]) -> None:
    """Check that `value` is one of the names that the argument `name` accepts."""
    if value not in known:
        raise ValueError(f"{name} '{value}' is not known; use one of {', '.join(known)}.")


def check_present(components: Mapping[str, Any]) -> None:
    """Check that no part of a pipeline is None, that networks have a config, and the VAE one of a VAE."""
    missing = [name for name, part in components.items() if part is None]
    if missing:
        raise ValueError(
            f"the pipeline has no {', '.join(missing)}; load it with all of its parts, or set them "
            f"(pipe.{missing[0]} = …)."
        )
    for name, part in components.items():
        kind = type(part).__name__
        if isinstance(part, nn.Module) and not hasattr(part, "config"):
            raise ValueError(
                f"the pipeline's {name} is a {kind} without a config; give it the network itself. Several "
                "GPUs share a clip under torchrun."
            )
        if name == "vae" and not hasattr(part.config, "latent_channels"):
            raise ValueError(f"the pipeline's vae is a {kind}, which is no VAE; load it with its own.")


def read_side(name: str, value: Any) -> int:
    """Return a height or width in pixels as an int, also from text or a float."""
    try:
        side = int(value)
    except (TypeError, ValueError, OverflowError):
        side = MAX_SIDE + 1
    if side > MAX_SIDE:
        raise ValueError(
            f"{name} is {shown(value)}; expected a number of pixels, at most {MAX_SIDE}."
        ) from None
    return side


def check_size(height: int, width: int, side: int) -> None:
    """Check that height and width of the video, in pixels, are multiples of `side`."""
    if height % side or width % side or min(height, width) < side:
        near = [max(side, round(length / side) * side) for length in (height, width)]
        raise ValueError(
            f"the video is {height} x {width} (height x width); both have to be multiples of {side}. "
            f"Use {near[0]} x {near[1]}."
        )


def check_videos(num_videos: int, generator: Generators) -> None:
    """Check that there is a reference, and one generator in all or one for each video.

    Raises:
        TypeError: something else than generators is given, as a seed.
    """
    if not num_videos:
        raise ValueError("there is no image; give a reference.")
    for each in generator if isinstance(generator, list) else [generator]:
        if not (each is None or isinstance(each, torch.Generator)):
            raise TypeError(
                f"generator has a {type(each).__name__}; expected torch.Generator().manual_seed(seed), or a "
                "list with one for each video."
            )
    if isinstance(generator, list) and len(generator) != num_videos:
        raise ValueError(
            f"{len(generator)} generators for {num_videos} videos; give one for each video, or one for all."
        )


def check_latents(
    latents: Tensor | None, *, num_videos: int, lengths: Collection[int], shape: tuple[int, int, int]
) -> None:
    """Check that given noise is ``B x f x C x h x w`` with f in `lengths`; `shape` is (C, h, w)."""
    if latents is None:
        return
    found = tuple(latents.shape)
    if len(found) != 5 or found[0] != num_videos or found[1] not in lengths or found[2:] != shape:
        frames = " or ".join(map(str, sorted(lengths)))
        raise ValueError(
            f"latents are {list(found)}; expected {num_videos} videos x {frames} frames x "
            f"{' x '.join(map(str, shape))}."
        )


def check_pose_maps(
    pose_maps: Sequence[MapDrawer], *, num_videos: int, num_frames: int, height: int, width: int
) -> None:
    """Check number and size of the pose maps; only the first map of each clip is drawn.

    Values are checked where maps are read (`mimic.data.pose_maps`)."""
    if not pose_maps:
        return
    if len(pose_maps) not in {1, num_videos}:
        raise ValueError(
            f"{len(pose_maps)} clips of poses for {num_videos} videos; give one for each, or one for all."
        )
    for maps in pose_maps:
        length = len(maps) if hasattr(maps, "__len__") else None
        if length is not None and length < num_frames:
            raise ValueError(
                f"image_pose has {length} frames, num_frames is {num_frames}; use {length} at most."
            )
        drawn = as_pose_tensor(maps([0]))
        if tuple(drawn.shape) != (1, 3, height, width):
            raise ValueError(
                f"a pose map is {list(drawn.shape[1:])}; expected 3 x {height} x {width}, the video's size. "
                "Draw the poses at that size, or leave height and width out."
            )


def check_decoding(chunk: int, overlap: int) -> None:
    """Check that chunks of decoded frames hold frames and are longer than their context at both ends."""
    if chunk < 1:
        raise ValueError(f"decode_chunk_size is {chunk}; it has to be at least 1.")
    if not 0 <= 2 * overlap < chunk:
        raise ValueError(
            f"decode_overlap is {shown(overlap)}, at both ends of a chunk of {chunk} frames; it has to be "
            "less than half of decode_chunk_size."
        )
