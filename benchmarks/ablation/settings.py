"""Every number of the ablation: the world, the data, the model, the training, the evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mimic.config.loading import Config

ARMS: dict[str, tuple[str, float]] = {
    "a": ("binary", 1.0),
    "b": ("confidence", 1.0),
    "c": ("binary", 10.0),
    "d": ("confidence", 10.0),
}
"""Arm: how its maps are drawn, and w_hand (10 is the paper's)."""
NAMES = {
    "a": "plain",
    "b": "confidence-aware maps",
    "c": "hand loss",
    "d": "both",
}


class AblationSettings(Config):
    """What `python -m benchmarks.ablation key=value ...` may change."""

    folder: Path = Path("runs/ablation")
    """Data, checkpoints and measurements of each arm; a run that was stopped goes on from here."""
    results: Path = Path("benchmarks/results/ablation")
    page: Path = Path("docs/ablation.md")
    vae: Path = Path("benchmarks/ablation/vae")
    """Frozen; 4x down, for pictures of 96x96 pixels."""
    seeds: tuple[int, ...] = (0, 1)

    size: int = 48
    zoom: float = 1.7
    """The upper body fills the picture, so that a hand covers about three by three latent pixels."""
    hand_scale: float = 1.3
    canvas_short_side: int = 240
    num_dancers: int = 1200
    num_pictures: int = 4
    noise_strength: float = 1.0
    """Detector noise of the training's poses, from 0 to this for each dancer."""
    failing_share: float = 0.3
    """Of the training's pictures, with one failure each; the same in all arms."""
    hand_threshold: float = 0.8
    """A hand all of whose points score more gets a rectangle in the loss."""

    width: int = 48
    steps: int = 500
    batch_size: int = 16
    frames: int = 4
    """Pictures in a window, the reference included."""
    learning_rate: float = 2e-3
    clip_norm: float = 10.0
    P_mean: float = 2.7
    P_std: float = 0.6
    """One step from `sigma_max` makes the pictures, so that is about where is learned."""
    sigma_max: float = 20.0
    precision: Literal["fp32", "bf16"] = "bf16"
    save_every: int = 20

    num_clips: int = 64
    clip_frames: int = 8
    clip_fps: float = 8.0
    spell: int = 2
    """Frames that a failure lasts in the clips of the evaluation; there every frame fails."""
    resamples: int = 4000
    """Of the clips, for the intervals."""

    fusion_clips: int = 8
    fusion_frames: int = 39
    tile_size: int = 16
    tile_overlap: int = 4
