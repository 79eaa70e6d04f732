"""Settings of sampling, accepted by a pipeline's call and by the cases of a YAML."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mimic.config.loading import Config


class SamplingSettings(Config):
    """Sampling settings of every family.

    A setting that is None takes the value stored with the model's weights, else the released value.
    """

    tile_size: int | None = Field(None, ge=1)
    """Number of frames per window, in MimicMotion including the reference frame (released name:
    `num_frames`)."""

    tile_overlap: int | None = Field(None, ge=0)
    """Number of frames shared by consecutive windows, less than `tile_size` (released name:
    `frames_overlap`)."""

    windows: Literal["reference", "closed", "sliding"] | None = None
    """Layout of the windows. MimicMotion supports only `reference`: every window begins with the reference
    frame. Animate Anyone and MagicAnimate support `closed` (as released): a window that exceeds the end of
    the clip wraps around to its first frames; and `sliding`: the last window ends at the end of the clip.
    With a fusion of `progressive` or `none`, which depend on the order of windows, their default is
    `sliding`."""

    num_inference_steps: int | None = Field(None, ge=1, le=10_000)
    """Number of denoising steps."""

    sigmas: tuple[float, ...] | None = None
    """Noise levels of the steps, decreasing, in place of `num_inference_steps`, for example diffusers'
    `AysSchedules`; a last 0 may be left out. Needs a scheduler that takes sigmas, as MimicMotion's does."""

    timesteps: tuple[Annotated[int, Field(ge=0, le=1_000_000)], ...] | None = None
    """Discrete timesteps of the steps, decreasing, in place of `num_inference_steps`. Needs a scheduler that
    takes timesteps."""

    guidance_scale: float | None = Field(None, ge=0, le=100)
    """Scale of classifier-free guidance for all frames. With a scale of 1 or less, guidance is off, which
    halves the time of a step."""

    min_guidance_scale: float | None = Field(None, ge=0, le=100)
    """Scale of classifier-free guidance at the first frame; give it together with `max_guidance_scale` and
    without `guidance_scale`."""

    max_guidance_scale: float | None = Field(None, ge=0, le=100)
    """Scale of classifier-free guidance at the last frame; between first and last frame, the scale changes
    linearly."""

    guidance_interval: tuple[float, float] | None = None
    """Lowest and highest noise level (sigma) at which guidance is applied. Default: guidance at all noise
    levels."""

    fusion: Literal["released", "progressive", "average", "none"] | None = None
    """How the predictions of overlapping windows are fused: `released` (weights of the released MimicMotion),
    `progressive` (MimicMotion's paper), `average` (equal weights), or `none` (the first window that holds a
    frame, with hard cuts); see `mimic.sampling.fusion`."""

    noise: Literal["window", "full", "shared"] | None = None
    """Initial noise: `window` repeats the noise of one window along time, `full` draws independent noise for
    every frame, `shared` uses the same noise for all frames."""

    decode_chunk_size: int | None = Field(None, ge=1, le=10_000)
    """Number of frames decoded together. Fewer frames need less memory; with a temporal decoder, the result
    depends on this number."""

    decode_overlap: int | None = Field(None, ge=0)
    """With a temporal decoder: frames at both ends of each chunk that are decoded only as context and then
    decoded again in the middle of another chunk, less than half of `decode_chunk_size` (released: 0). Chunks
    then pass into each other without a jump, but each yields fewer frames, so decoding takes longer."""

    decode_tile_size: int | None = Field(None, ge=64, le=65536)
    """Side in pixels of the overlapping tiles in which larger frames are decoded, so that they need no more
    memory; 512 suits most devices. The result differs slightly from that of whole frames, the default."""

    preset: Literal["exact", "balanced", "fast"] | None = None
    """`exact` (default) computes all steps in full; `balanced` and `fast` use fewer and cheaper evaluations
    of the network, by the settings `num_inference_steps`, `schedule`, `guidance_interval` and
    `reuse_interval` of `mimic.sampling.presets`. Each of these can also be given alone and takes
    precedence."""

    schedule: Literal["released", "aligned"] | None = None
    """Noise levels of the steps: `released`, or `aligned` (Align Your Steps, made for 10 steps; MimicMotion
    only)."""

    reuse_interval: int | None = Field(None, ge=1)
    """Run the whole network every N-th step only, and between them its first and last blocks, with the deep
    features of the former step (DeepCache). Default 1: at every step."""

    optimize: bool = True
    """Compute with faster implementations, whose results differ only in the order of sums (latents within
    1e-3 in float32); `false` computes as diffusers does. Not with `compat: released`."""

    compile: bool = False
    """Compile the repeated blocks of the networks with `torch.compile`. The first steps take minutes, later
    ones less time; compiled code is kept on disk for later runs. Not with `compat: released`."""

    batch_guidance: bool | None = None
    """Compute both branches of guidance in one call of the network, which needs twice the memory for
    activations. Default: if a window is small (all its frames together at most 65,536 latent pixels, on a CPU
    16,384); larger windows use the whole device as it is."""

    compat: Literal["none", "released"] = "none"
    """`released` reproduces roundings and faults of the released code; `none` does not."""

    @field_validator("sigmas", "timesteps", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return value.tolist() if hasattr(value, "tolist") else value

    @model_validator(mode="after")
    def _check_steps(self) -> SamplingSettings:
        if self.sigmas is not None and self.timesteps is not None:
            raise ValueError("sigmas and timesteps are both given; give one of them")
        for name, steps in (("sigmas", self.sigmas), ("timesteps", self.timesteps)):
            if steps is None:
                continue
            falls = all(later < earlier for earlier, later in itertools.pairwise(steps))
            if not steps or not falls or steps[-1] < 0 or not all(map(math.isfinite, steps)) or steps[0] == 0:
                raise ValueError(f"{name} are {list(steps)}; expected decreasing numbers, none below 0")
        return self

    @model_validator(mode="after")
    def _check_guidance(self) -> SamplingSettings:
        if self.guidance_interval is not None and self.guidance_interval[0] > self.guidance_interval[1]:
            raise ValueError(
                f"guidance_interval is {list(self.guidance_interval)}; expected the lower noise level first"
            )
        return self


class SVDSettings(SamplingSettings):
    """Sampling settings of families based on Stable Video Diffusion."""

    noise_aug_strength: float | None = Field(None, ge=0, le=10)
    """Standard deviation of the noise added to the reference picture, in [-1, 1], before it is encoded; also
    passed to the model (released: 0)."""

    conditioning_fps: int | None = Field(None, ge=1, le=1000)
    """Frames per second passed to the model, independent of the frame rate of the result (released: 7)."""

    motion_bucket_id: int | None = Field(None, ge=0, le=1000)
    """Motion bucket id passed to the model (released: 127)."""


class ControlSettings(SamplingSettings):
    """Sampling settings of families with a ControlNet."""

    control_scale: float | None = Field(None, ge=0, le=100)
    """Factor of the ControlNet's residuals (MagicAnimate); 1 as trained, 0 ignores the driving maps."""
