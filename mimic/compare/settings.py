"""What a compare YAML may say: the clips, the variants, the seeds, what is measured."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from mimic.config import CaseSettings, Config, ConfigError
from mimic.config.loading import build, load_config

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")

SHARED = ("seed", "height", "width", "resolution", "fps", "max_frames", "sample_stride")
"""Case settings that are the same for all variants: `common` may have them, a variant may not."""


class ClipSettings(Config):
    """The clips that all variants are given."""

    source: Literal["synthetic", "folder"] = "synthetic"
    """`synthetic` renders dancers with exact poses and part maps; `folder` reads the user's clips."""

    path: str | None = None
    """Of `folder`: videos `NAME.mp4`, or folders `NAME/` of frames; `NAME.densepose.mp4` beside them."""

    names: tuple[str, ...] = ()
    """Of `folder`: only clips whose names contain one of these; empty takes all."""

    num_clips: int = Field(4, ge=1)
    """Of `synthetic`: how many dancers."""

    first_seed: int = Field(900_000, ge=0)
    """Of `synthetic`: number of the first dancer; training counts from ten million on."""

    num_frames: int = Field(16, ge=2)
    """Frames to generate of each clip."""

    fps: float = Field(8.0, gt=0, le=240)
    """Frames a second: of `synthetic` and of folders of frames."""

    stride: int = Field(1, ge=1)
    """Of `folder`: every so-manieth frame."""

    reference_frame: int = Field(0, ge=0)
    """Of `folder`: the frame that is the reference picture; what is generated starts after it."""

    poses: Literal["estimated", "exact", "noisy"] = "exact"
    """Of `synthetic`: driving skeletons as rendered, or as a detector would find them; of `folder` they are
    always estimated."""

    @model_validator(mode="after")
    def _agree(self) -> ClipSettings:
        if self.source == "folder" and self.path is None:
            raise ValueError("source is folder, and path does not say which")
        return self


class VariantSettings(Config):
    """One column of the comparison."""

    name: str
    """What the report calls it; unique."""

    model: str
    """Folder, hub id or `bundled:mini`."""

    checkpoint: str | None = None
    """A released checkpoint over `model`."""

    vae: str | None = None
    """A VAE in place of the model's own, in diffusers' layout (released Animate Anyone, MagicAnimate)."""

    settings: dict[str, Any] = Field(default_factory=dict)
    """Case settings (fusion, guidance_scale, num_frames, …) of this variant alone."""

    @field_validator("name", mode="after")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is to be part of file names: letters, digits, _ . + -")
        return name

    @model_validator(mode="after")
    def _check_settings(self) -> VariantSettings:
        shared = sorted(set(self.settings) & set(SHARED))
        if shared:
            raise ValueError(
                f"{', '.join(shared)} of variant {self.name} must be the same for all; use common"
            )
        try:
            build(CaseSettings, self.settings, f"variant {self.name}")
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self


class MetricSettings(Config):
    """What is measured beyond pixels; a network that is not named is not measured."""

    lpips_network: str | None = None
    """File or hub id; see `mimic evaluate`."""

    fid_network: str | None = None
    """Inception-v3."""

    fid_vid_network: str | None = None
    """3D ResNet-50."""

    fvd_network: str | None = None
    """I3D."""

    pose: bool = False
    """Estimate poses anew in the generated clips."""

    face_model: str | None = None
    """ONNX face model for identity."""


class CompareConfig(Config):
    """A comparison."""

    title: str = "Comparison"
    """Heading of the page."""

    output_dir: str = "outputs/compare"
    """Where cells, `results.jsonl` and `report.html` go."""

    protocol: Literal["A", "B", "none"] = "none"
    """Rules of the figures (`mimic.metrics.protocols`)."""

    clips: ClipSettings = ClipSettings.model_validate({})
    """The clips."""

    seeds: tuple[int, ...] = (0,)
    """Each variant makes each clip once with each of these."""

    common: dict[str, Any] = Field(default_factory=dict)
    """Case settings that all variants share."""

    variants: tuple[VariantSettings, ...] = Field(min_length=1)
    """What is compared: families, checkpoints, or settings of one model."""

    metrics: MetricSettings = MetricSettings()
    """What is measured beyond pixels."""

    estimator: Literal["auto", "dwpose", "blazepose"] = "auto"
    """Finds poses where none are given, and for `metrics.pose`."""

    estimator_weights: str | None = None
    """Folder of the DWPose files."""

    densepose_model: str | None = None
    """ONNX or TorchScript: makes part maps of clips that have none, for variants that these drive."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps; several processes take one GPU each."""

    dtype: str = "auto"
    """Precision of the weights."""

    @model_validator(mode="after")
    def _agree(self) -> CompareConfig:
        names = [variant.name for variant in self.variants]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"variants have one name twice: {', '.join(twice)}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError("seeds are to be different whole numbers from 0, one at least")
        if "seed" in self.common:
            raise ValueError("seed in common; the seeds have a list of their own")
        try:
            build(CaseSettings, self.common, "common")
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self


def load_compare_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> CompareConfig:
    """Read a compare YAML.

    Raises:
        ConfigError: a key or value is wrong.
    """
    return load_config(CompareConfig, path, overrides)
