"""Settings of a comparison: clips, variants, seeds, metrics."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mimic.config import CaseSettings, Config, ConfigError
from mimic.config.loading import build, check_kind, read_yaml
from mimic.metrics.tools import MetricSettings
from mimic.names import fault_of, first_clash

Seed = Annotated[int, Field(ge=0, lt=2**63)]

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

    fps: float = Field(8.0, ge=0.1, le=240)
    """Frames a second: of `synthetic` and of folders of frames."""

    stride: int = Field(1, ge=1)
    """Of `folder`: keep every N-th frame."""

    reference_frame: int = Field(0, ge=0)
    """Of `folder`: the frame that is the reference picture; generation starts after it."""

    poses: Literal["estimated", "exact", "noisy"] = "exact"
    """Of `synthetic`: driving skeletons as rendered, or as a detector would find them; of `folder` they are
    always estimated."""

    @model_validator(mode="after")
    def _agree(self) -> ClipSettings:
        if self.source == "folder" and self.path is None:
            raise ValueError("source is folder, which needs path")
        return self


class VariantSettings(Config):
    """One column of the comparison: a model of ours, videos that any program made, or a program to run."""

    name: str
    """Unique name in the report."""

    model: str | None = None
    """Folder, hub id or `bundled:mini`. Give exactly one of `model`, `videos` and `command`."""

    videos: str | None = None
    """Folder with finished results of any program: for each clip `NAME.mp4` or a folder of pictures `NAME/`,
    with as many frames as the comparison makes; the same video stands for every seed."""

    command: str | None = None
    """A program that is run for each cell, without a shell, and timed. It is given `{reference}` (a PNG),
    `{driving}` (a video of the true movement) and `{poses}` (its poses, npz), and writes `{output}` (an mp4).
    Also known: `{seed}`, `{height}`, `{width}`, `{fps}` and `{num_frames}`."""

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
            raise ValueError(f"{name!r} becomes part of file names; use letters, digits, _ . + -")
        fault = fault_of(name)
        if fault is not None:
            raise ValueError(f"{name!r} becomes the name of a folder; {fault}. Choose another name")
        return name

    @model_validator(mode="after")
    def _check_source(self) -> VariantSettings:
        given = [name for name in ("model", "videos", "command") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"variant {self.name} has {' and '.join(given) or 'no source'}; give one of model, videos "
                "and command"
            )
        own = [name for name in ("checkpoint", "vae", "settings") if getattr(self, name)]
        if given != ["model"] and own:
            raise ValueError(f"{', '.join(own)} of variant {self.name} belong to a model; it has {given[0]}")
        if self.command is not None and "{output}" not in self.command:
            raise ValueError(
                f"command of variant {self.name} lacks {{output}}, the video that it is to write"
            )
        return self

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


class CompareConfig(Config):
    """A comparison."""

    title: str = "Comparison"
    """Heading of the page."""

    output_dir: str = "outputs/compare"
    """Where cells, `results.jsonl` and `report.html` go."""

    protocol: Literal["A", "B", "none"] = "none"
    """Rules of the metrics (`mimic.metrics.protocols`)."""

    clips: ClipSettings = ClipSettings.model_validate({})
    """The clips."""

    seeds: tuple[Seed, ...] = (0,)
    """Each variant makes each clip once with each seed."""

    common: dict[str, Any] = Field(default_factory=dict)
    """Case settings that all variants share."""

    variants: tuple[VariantSettings, ...] = Field(min_length=1)
    """Families, checkpoints, or settings of one model."""

    metrics: MetricSettings = MetricSettings()
    """Metrics beyond pixels."""

    estimator: Literal["auto", "dwpose", "blazepose"] = "auto"
    """Finds poses where none are given, and for `metrics.pose`."""

    estimator_weights: str | None = None
    """Folder of the DWPose files."""

    densepose_model: str | None = None
    """ONNX or TorchScript: makes part maps of clips without any, for variants driven by part maps."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps; several processes take one GPU each."""

    dtype: str = "auto"
    """Precision of the weights."""

    @model_validator(mode="after")
    def _agree(self) -> CompareConfig:
        names = [variant.name for variant in self.variants]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"several variants are called {', '.join(twice)}; names must be unique")
        clash = first_clash(names)
        if clash is not None:
            raise ValueError(
                f"the variants {clash[0]!r} and {clash[1]!r} are one folder on some systems; choose names "
                "that differ by more than case"
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds must be different whole numbers, at least one")
        if "seed" in self.common:
            raise ValueError("common sets seed; set seeds instead")
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
    content = read_yaml(path, overrides, CompareConfig)
    check_kind(content, path, "compare")
    return build(CompareConfig, content, source=path)
