"""Settings of sampling: what a pipeline's call takes and a case of a YAML may set alike."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mimic.config.loading import Config


class SamplingSettings(Config):
    """Settings that every family takes.

    One that is None takes the value stored with the model's weights, else the released one.
    """

    tile_size: int | None = Field(None, ge=1)
    """Frames per window, in MimicMotion the reference's own among them (released name: `num_frames`)."""

    tile_overlap: int | None = Field(None, ge=0)
    """Frames shared by neighbouring windows (released name: `frames_overlap`)."""

    windows: Literal["reference", "closed", "sliding"] | None = None
    """Layout of the windows. MimicMotion has `reference` alone: each begins with the reference. Animate
    Anyone and
    MagicAnimate: the last window is completed with the first frames (`closed`, released) or placed at the end
    (`sliding`, the default with a fusion of `progressive` or `none`, which depend on the windows' order)."""

    num_inference_steps: int | None = Field(None, ge=1)
    """Denoising steps."""

    guidance_scale: float | None = Field(None, ge=0)
    """Strength of classifier-free guidance for every frame; up to 1 there is none, which takes half the
    time."""

    min_guidance_scale: float | None = Field(None, ge=0)
    """With `max_guidance_scale`, in place of `guidance_scale`: strength at the first frame."""

    max_guidance_scale: float | None = Field(None, ge=0)
    """Strength at the last frame; it changes linearly in between."""

    guidance_interval: tuple[float, float] | None = None
    """Lowest and highest noise level (sigma) with guidance; there is none elsewhere. None: everywhere."""

    fusion: Literal["released", "progressive", "average", "none"] | None = None
    """How predictions are blended where windows overlap (`mimic.sampling.fusion`)."""

    noise: Literal["window", "full", "shared"] | None = None
    """Initial noise: that of one window, repeated; of the full length; or of one frame, `shared` by all."""

    decode_chunk_size: int | None = Field(None, ge=1)
    """Frames decoded together. Fewer take less memory; the decoder looks along time, so results differ."""

    compat: Literal["none", "released"] = "none"
    """`released` repeats the released code's truncations and faults."""

    @model_validator(mode="after")
    def _check_guidance(self) -> SamplingSettings:
        if self.guidance_interval is not None and self.guidance_interval[0] > self.guidance_interval[1]:
            raise ValueError(
                f"guidance_interval is {list(self.guidance_interval)}; give the lower noise level first"
            )
        return self


class SVDSettings(SamplingSettings):
    """Settings of families built on Stable Video Diffusion."""

    noise_aug_strength: float | None = Field(None, ge=0)
    """Noise added to the reference before it is encoded."""

    conditioning_fps: int | None = Field(None, ge=1)
    """Frames per second passed to the model, whatever the result's (released: 7)."""

    motion_bucket_id: int | None = Field(None, ge=0)
    """Motion bucket id passed to the model (released: 127)."""


class ControlSettings(SamplingSettings):
    """Settings of families with a ControlNet."""

    control_scale: float | None = Field(None, ge=0)
    """Strength of the ControlNet; 1 as trained (MagicAnimate)."""
