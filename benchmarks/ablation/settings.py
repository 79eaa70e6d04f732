"""Every number of the ablation: the world, the data, the model, the training, the evaluation."""

from __future__ import annotations

from pathlib import Path

from mimic.config.loading import Config
from mimic.training.dancers import DancerSettings
from mimic.training.mini_unet import MiniSettings

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
    vae: Path = Path("mimic/assets/mini/vae")
    """Frozen. The bundled UNet is not used: it has been trained with both ideas."""
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

    common_steps: int = 120
    """Of the common start: exact poses, all sure, for which both drawings are equal, and the plain loss."""
    common_processes: int = 4
    """That train it together, each on its own batches: `common_steps` counts steps of all."""
    common_learning_rate: float = 2e-3
    steps: int = 80
    """Of each arm, from the common start on."""
    batch_size: int = 5
    frames: int = 4
    """Pictures in a window, the reference included."""
    widths: tuple[int, ...] = (64, 64)
    learning_rate: float = 1e-3
    precision: str = "bf16"
    sigma_max: float = 20.0

    num_clips: int = 64
    clip_frames: int = 8
    clip_fps: float = 8.0
    spell: int = 2
    """Frames that a failure lasts in the clips of the evaluation; there every frame fails."""
    resamples: int = 4000
    """Of the clips, for the intervals."""

    fusion_clips: int = 8
    fusion_frames: int = 64
    tile_size: int = 16
    tile_overlap: int = 4

    @property
    def common(self) -> MiniSettings:
        """Settings of the training that all arms start from."""
        return self._mini("common", 0, w_hand=1.0, steps=self.common_steps, rate=self.common_learning_rate)

    def training(self, arm: str, seed: int) -> MiniSettings:
        """Settings of one arm's training: arms differ in `w_hand` here and in the maps they are given."""
        common = self.common.output_dir / f"checkpoint-{self.common_steps}"
        settings = self._mini(
            f"{arm}{seed}", seed + 1, w_hand=ARMS[arm][1], steps=self.steps, rate=self.learning_rate
        )
        return settings.model_copy(update={"start_from": common})

    def _mini(self, name: str, seed: int, *, w_hand: float, steps: int, rate: float) -> MiniSettings:
        return MiniSettings(
            output_dir=self.folder / name,
            vae=self.vae,
            seed=seed,
            dancers=DancerSettings(
                height=self.size,
                width=self.size,
                num_pictures=self.num_pictures,
                canvas_short_side=self.canvas_short_side,
            ),
            block_out_channels=self.widths,
            num_attention_heads=tuple(max(1, width // 32) for width in self.widths),
            attention_levels=(False,) * len(self.widths),  # the middle block attends, at 6x6
            cross_attention_dim=32,
            image_encoder_width=32,
            image_encoder_layers=1,
            max_steps=steps,
            batch_size=self.batch_size,
            frames=self.frames,
            learning_rate=rate,
            warmup_steps=min(20, steps),
            decay_share=0.4,
            # One step from sigma = 20 makes the pictures, so that is where most is learned.
            P_mean=2.7,
            P_std=0.6,
            sigma_range=(0.3, 60.0),
            region_factors={"hands": w_hand},
            palette_steps=min(20, steps // 2),
            save_every=25,
            num_workers=0,
            precision=self.precision,
        )
