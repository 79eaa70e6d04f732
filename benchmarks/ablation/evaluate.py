"""How well does an arm draw unseen characters, from exact poses and from poses that fail?

Each clip is measured frame by frame against the truth; what is averaged over which frames is decided when the
page is written. Squared errors are of grey levels in [0, 255].

Pose error: these pictures are too small for the pose estimators, so places are compared directly. The hand
offset is how far, in pixels, the truth's patch around each hand has to be moved to fit the made picture best;
the silhouette error is one minus the overlap (intersection over union) of the figures' outlines.

Legend: B clips at once, F frames, H x W picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.ablation.dancers import DOWNSCALE, FIRST_UNSEEN_SEED, maps_of, who_dances_what
from benchmarks.ablation.denoiser import Denoiser
from benchmarks.ablation.failing import fail
from benchmarks.ablation.settings import ARMS, AblationSettings
from benchmarks.ablation.train import build, denoised
from mimic.dancers import LEFT_HAND, RIGHT_HAND, render
from mimic.dancers.background import paint_background
from mimic.dancers.clip import RenderedClip
from mimic.metrics.image import intersection_over_union, silhouette
from mimic.metrics.video import changes
from mimic.miniature.dancers import as_network_input
from mimic.models.mini import MiniTemporalVAE
from mimic.models.temporal_convolution import use_fast_temporal_convolutions
from mimic.training.state import checkpoints, load_state
from pose import PoseSequence
from pose.types import concatenate

CONDITIONS = ("clean", "failing")
_REACH = 6  # pixels that a hand is looked for around its place
_SSIM_SIGMA = 1.5

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    """An unseen dancer. Frame 0 of the clip is the reference; its pose is exact in both conditions."""

    clip: RenderedClip
    background: Frames
    poses: dict[str, PoseSequence]
    kinds: NDArray[np.int64]
    """Which failure each driving frame has."""
    limits: NDArray[np.float64]
    """The score that its wrong points have at most."""


def make_case(number: int, settings: AblationSettings) -> Case:
    """Unseen dancer `number`: the reference at a random time, the clip from another stretch of the dance."""
    rng = np.random.default_rng(FIRST_UNSEEN_SEED + number)
    character, motion = who_dances_what(rng, settings, 6.0)
    num, fps = settings.clip_frames, settings.clip_fps
    times = np.concatenate([rng.uniform(0, 6.0, 1), rng.uniform(0, 6.0 - num / fps) + np.arange(num) / fps])
    clip = render(character, motion, times, settings.size, settings.size)
    failing, kinds, limits = fail(clip.poses[1:], rng, share=1.0, spell=settings.spell)
    return Case(
        clip=clip,
        background=paint_background(character.background, settings.size, settings.size),
        poses={"clean": clip.poses, "failing": concatenate([clip.poses[0], failing])},
        kinds=kinds,
        limits=limits,
    )


@dataclass(frozen=True)
class Arm:
    """A trained arm with its averaged weights, and the VAE that all share."""

    model: Denoiser
    vae: MiniTemporalVAE


def load_arm(settings: AblationSettings, arm: str, seed: int) -> Arm:
    """The last checkpoint of an arm."""
    vae = MiniTemporalVAE.from_pretrained(settings.vae).requires_grad_(False).eval()
    use_fast_temporal_convolutions(vae)
    model = build(settings)
    model.load_state_dict(load_state(checkpoints(settings.folder / f"{arm}{seed}")[-1])[0]["average"])
    return Arm(model.requires_grad_(False).eval(), vae)


@torch.no_grad()
def draw_clips(
    arm: Arm, cases: Sequence[Case], condition: str, mode: str, settings: AblationSettings, *, batch: int = 8
) -> list[Frames]:
    """The driving frames as the arm makes them, in one step from sigma_max to x0, without guidance.

    Every frame of every clip starts from the same noise, whatever the arm and the condition.
    """
    side = settings.size // DOWNSCALE
    channels = arm.vae.config["latent_channels"]
    noise = torch.randn(1, 1, channels, side, side, generator=torch.Generator().manual_seed(0))
    made: list[Frames] = []
    for start in range(0, len(cases), batch):
        some = cases[start : start + batch]
        references = torch.stack([_pixels(case.clip.frames[:1])[0] for case in some])
        maps = torch.stack([_pixels(maps_of(case.poses[condition], settings, mode)) for case in some])
        B, F = maps.shape[:2]
        x = settings.sigma_max * noise.expand(B, F - 1, -1, -1, -1)
        sigma = torch.full((B,), settings.sigma_max)
        shown = arm.vae.encode(references).latent_dist.mode()
        latents = denoised(arm.model, x, sigma, shown, maps[:, 1:], maps[:, 0])
        latents = latents / float(arm.vae.config["scaling_factor"])
        for clip in latents:
            decoded = (arm.vae.decode(clip, num_frames=len(clip)).sample + 1) * 127.5
            made.append(decoded.round().clamp(0, 255).byte().numpy().transpose(0, 2, 3, 1))
    return made


def _pixels(frames: Frames) -> torch.Tensor:
    return as_network_input(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))


def measure(frames: Frames, case: Case) -> dict[str, list[float | None]]:
    """Each quantity for each driving frame; None where it cannot be measured (no hand in sight, frame 0)."""
    truth, parts = case.clip.frames[1:], case.clip.part_ids[1:]
    squared = ((frames.astype(np.float64) - truth) ** 2).mean(axis=-1)
    hands = np.isin(parts, (LEFT_HAND, RIGHT_HAND)).astype(np.uint8)
    hands = np.stack([cv2.dilate(mask, np.ones((3, 3), np.uint8)) for mask in hands]) > 0
    figure = case.clip.figure_mask[1:]
    made = silhouette(frames, case.background)
    similar = [_ssim_map(a, b) for a, b in zip(frames, truth)]
    rows: dict[str, list[float | None]] = {
        "frame_mse": squared.mean(axis=(1, 2)).tolist(),
        "hands_mse": [_mean(e, mask) for e, mask in zip(squared, hands)],
        "figure_mse": [_mean(e, mask) for e, mask in zip(squared, figure)],
        "rest_mse": [_mean(e, f & ~h) for e, f, h in zip(squared, figure, hands)],
        "hands_ssim": [_mean(s, mask) for s, mask in zip(similar, hands)],
        "frame_ssim": [float(s.mean()) for s in similar],
        "silhouette_error": [1 - intersection_over_union(a, b) for a, b in zip(made, figure)],
        "hand_offset": [_hand_offset(a, b, p) for a, b, p in zip(frames, truth, parts)],
        "temporal_error": [None, *changes(frames, truth).tolist()],
    }
    return rows


def _mean(values: NDArray[np.float64], mask: NDArray[np.bool_]) -> float | None:
    return float(values[mask].mean()) if mask.any() else None


def _ssim_map(picture: Frames, truth: Frames) -> NDArray[np.float64]:
    """Structural similarity at every pixel, of luma, Gaussian window of sigma 1.5 (Wang et al. 2004)."""
    luma = np.array([0.299, 0.587, 0.114])
    x, y = picture @ luma, truth @ luma

    def blur(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(values, (11, 11), _SSIM_SIGMA))

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    return np.asarray(similarity)


def _hand_offset(picture: Frames, truth: Frames, parts: Frames) -> float | None:
    """Mean over the hands in sight of the distance at which the truth's patch fits the picture best."""
    offsets = []
    padded = cv2.copyMakeBorder(picture, _REACH, _REACH, _REACH, _REACH, cv2.BORDER_REPLICATE)
    for part in (LEFT_HAND, RIGHT_HAND):
        rows, columns = np.nonzero(parts == part)
        if len(rows) < 12:
            continue
        top, bottom = max(rows.min() - 2, 0), min(rows.max() + 3, len(parts))
        left, right = max(columns.min() - 2, 0), min(columns.max() + 3, parts.shape[1])
        around = padded[top : bottom + 2 * _REACH, left : right + 2 * _REACH]
        fit = cv2.matchTemplate(around, truth[top:bottom, left:right], cv2.TM_SQDIFF)
        row, column = np.unravel_index(int(fit.argmin()), fit.shape)
        offsets.append(float(np.hypot(row - _REACH, column - _REACH)))
    return float(np.mean(offsets)) if offsets else None


def evaluate_arm(
    settings: AblationSettings, name: str, seed: int, cases: Sequence[Case]
) -> dict[str, dict[str, list[list[float | None]]]]:
    """Condition to quantity to ``clips x frames``."""
    arm = load_arm(settings, name, seed)
    found = {}
    for condition in CONDITIONS:
        clips = draw_clips(arm, cases, condition, ARMS[name][0], settings)
        rows = [measure(frames, case) for frames, case in zip(clips, cases)]
        found[condition] = {quantity: [row[quantity] for row in rows] for quantity in rows[0]}
    return found


def sheet(settings: AblationSettings, seed: int, cases: Sequence[Case]) -> dict[str, Frames]:
    """A picture for each arm: a row a clip: reference, truth, then map and result, exact and failing."""
    frame = settings.clip_frames // 2
    strips = {}
    for name, (mode, _) in ARMS.items():
        arm = load_arm(settings, name, seed)
        columns = [[case.clip.frames[0] for case in cases], [case.clip.frames[1:][frame] for case in cases]]
        for condition in CONDITIONS:
            columns.append([maps_of(case.poses[condition][1:][[frame]], settings, mode)[0] for case in cases])
            columns.append([clip[frame] for clip in draw_clips(arm, cases, condition, mode, settings)])
        strips[name] = np.concatenate([np.concatenate(column, axis=0) for column in columns], axis=1)
    return strips
