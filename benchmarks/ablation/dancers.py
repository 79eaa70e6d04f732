"""What do all arms see? Dancers rendered and encoded once, with the maps of both kinds for the same poses.

Legend: N pictures of a dancer, D dancers, H x W picture, h x w latents, C latent channels.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from benchmarks.ablation.failing import fail
from benchmarks.ablation.settings import AblationSettings
from benchmarks.ablation.windows import RollingBuffer
from mimic.dancers import World, add_detector_noise, render, sample_character, sample_motion
from mimic.dancers.character import Character
from mimic.dancers.motion import Motion
from mimic.dancers.render import FRAME_HEIGHTS
from mimic.files import whole_file
from mimic.miniature.dancers import Dancer, as_network_input
from mimic.models.mini import MiniTemporalVAE
from pose import PoseSequence, draw_pose
from pose import skeletons as layout

FIRST_TRAINING_SEED = 300_000_000
FIRST_UNSEEN_SEED = 700_000
DOWNSCALE = 4  # of the miniature's VAE
LOOK_AT = (0.0, 0.72)
MODES = ("binary", "confidence")
_SHARD = 100


def who_dances_what(
    rng: np.random.Generator, settings: AblationSettings, duration_s: float
) -> tuple[Character, Motion]:
    """A character and a dance, seen from the hips up, arms within the picture."""
    half = FRAME_HEIGHTS / settings.zoom / 2
    world = World(
        hand_scale=settings.hand_scale,
        background_weights=(0.6, 0.4, 0.0, 0.0),
        stripe_probability=0.0,
        turn_deg=35.0,
        reach_side=half - 0.01,
        reach_up=LOOK_AT[1] + half - 0.01,
    )
    character = sample_character(rng, world)
    camera = replace(character.camera, zoom=settings.zoom, look_at=LOOK_AT)
    return replace(character, camera=camera), sample_motion(rng, world, duration_s=duration_s)


def make_dancer(seed: int, settings: AblationSettings) -> dict[str, Tensor]:
    """Dancer number `seed`, for training.

    Returns:
        pictures, binary, confidence (uint8 ``N x 3 x H x W``) and regions (uint8 ``N x 3 x h x w``: per
        cent of each latent pixel in the figure, in rectangles around confident hands, and in nothing).
    """
    rng = np.random.default_rng(seed)
    character, motion = who_dances_what(rng, settings, 8.0)
    clip = render(character, motion, rng.uniform(0, 8.0, settings.num_pictures), settings.size, settings.size)
    poses = add_detector_noise(clip.poses, rng, strength=settings.noise_strength * rng.uniform())
    poses, _, _ = fail(poses, rng, share=settings.failing_share)
    hands = hand_rectangles(poses, settings.size, threshold=settings.hand_threshold)
    regions = np.stack([clip.figure_mask, hands, np.zeros_like(hands)], axis=1)
    pooled = torch.nn.functional.avg_pool2d(torch.from_numpy(regions).float(), DOWNSCALE)
    return {
        "pictures": _channels_first(clip.frames),
        **{mode: _channels_first(maps_of(poses, settings, mode)) for mode in MODES},
        "regions": (pooled * 100).round().to(torch.uint8),
    }


def maps_of(poses: PoseSequence, settings: AblationSettings, mode: Any) -> NDArray[np.uint8]:
    """Pose maps, uint8 ``F x H x W x 3``."""
    size = settings.size
    return draw_pose(poses, size, size, mode=mode, canvas_short_side=settings.canvas_short_side)


def hand_rectangles(poses: PoseSequence, size: int, *, threshold: float) -> NDArray[np.bool_]:
    """The paper's hand masks, bool ``F x size x size``: rectangles around hands all of whose points are sure.

    A pixel's breadth is added on each side: the points are joints, flesh is around them.
    """
    masks = np.zeros((len(poses), size, size), bool)
    for hand in layout.HANDS:
        corners = poses.points[:, 0, hand] * size
        for i in np.flatnonzero(poses.scores[:, 0, hand].min(axis=1) > threshold):
            left, top = np.clip(np.floor(corners[i].min(axis=0)).astype(int) - 1, 0, size)
            right, bottom = np.clip(np.ceil(corners[i].max(axis=0)).astype(int) + 1, 0, size)
            masks[i, top:bottom, left:right] = True
    return masks


def _channels_first(frames: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))


def prepare(settings: AblationSettings, *, progress: bool = True) -> None:
    """Render and encode all dancers of the training into shards, those there already left as they are."""
    vae = MiniTemporalVAE.from_pretrained(settings.vae).requires_grad_(False).eval()
    for start in tqdm(_shards(settings), desc="dancers, in shards", disable=not progress):
        _prepare_shard(start, settings, vae)


def _shards(settings: AblationSettings) -> range:
    return range(0, settings.num_dancers, _SHARD)


def _shard_path(start: int, settings: AblationSettings) -> Path:
    return settings.folder / "data" / f"{start:06d}.safetensors"


@torch.no_grad()
def _prepare_shard(start: int, settings: AblationSettings, vae: MiniTemporalVAE) -> None:
    path = _shard_path(start, settings)
    if path.exists():
        return
    stop = min(start + _SHARD, settings.num_dancers)
    dancers = [make_dancer(FIRST_TRAINING_SEED + i, settings) for i in range(start, stop)]
    tensors = {name: torch.stack([dancer[name] for dancer in dancers]) for name in dancers[0]}
    pictures = tensors["pictures"].flatten(0, 1)
    latents = [vae.encode(as_network_input(part)).latent_dist.mode() for part in pictures.split(32)]
    scaled = torch.cat(latents) * float(vae.config["scaling_factor"])
    tensors["latents"] = scaled.unflatten(0, tensors["pictures"].shape[:2]).half().contiguous()
    with whole_file(path) as beside:
        save_file(tensors, beside)


def load(settings: AblationSettings, mode: str) -> RollingBuffer:
    """All dancers with the maps of one kind, as a training draws windows from them."""
    vae = MiniTemporalVAE.load_config(settings.vae)
    buffer = RollingBuffer(
        settings.num_dancers, np.random.default_rng(0), scaling_factor=float(vae["scaling_factor"])
    )
    for start in _shards(settings):
        shard = load_file(_shard_path(start, settings))
        for i in range(len(shard["pictures"])):
            dancer = Dancer(shard["pictures"][i], shard[mode][i], shard["regions"][i])
            buffer.add(dancer, shard["latents"][i])
    return buffer
