"""Schema of an inference YAML: the keys of the released MimicMotion, and further settings."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from mimic import names
from mimic.config.case import CaseSettings
from mimic.config.loading import Config, ConfigError, build, check_kind, read_yaml, split_override
from mimic.files import local_path
from pose.text import shown
from pose.video.source import nearest_file

_ONE_CASE = re.compile(r"^test_case\.(\d+)\.(\w+=.*)$", re.DOTALL)


class CaseConfig(CaseSettings):
    """A reference picture, a driving clip and the settings to animate the one with the other."""

    ref_image_path: str = Field(min_length=1)
    """The reference picture, which determines the appearance of the result: a path or `bundled:…`."""

    ref_video_path: str = Field(min_length=1)
    """The driving clip, which determines the motion of the result: a video, or a `.npz` of poses written by
    `mimic pose`; a path or `bundled:…`."""

    format: Literal["mp4", "mkv", "mov", "m4v", "webm", "gif", "png"] = "mp4"
    """Format of the result: a video, an animated `gif`, or `png`, a folder with a picture for each frame."""

    name: str | None = None
    """Name of the case; results are `<output_dir>/<name>.mp4` and `.json`. Default: the file names of clip
    and picture, shortened and without characters that some file systems do not allow."""

    @field_validator("name", mode="after")
    @classmethod
    def _check_name(cls, name: str | None) -> str | None:
        fault = None if name is None else names.fault_of(name)
        if fault is not None:
            remedy = f"Choose another name, such as {names.made_safe(name or '')!a}"
            raise ValueError(f"name is {name!a}; {fault}. {remedy}")
        return name


class InferenceConfig(Config):
    """A model and the cases to run with it.

    Settings of cases may also be given at the top level of the YAML; they apply to all cases that do not set
    them.
    """

    FOR_ALL_CASES: ClassVar[frozenset[str]] = frozenset({*CaseConfig.model_fields, *CaseConfig.OTHER_NAMES})
    """Keys that are allowed at the top level and apply to all cases."""
    LISTED_BY: ClassVar[str] = CaseConfig.LISTED_BY

    base_model_path: str = Field("bundled:mini", min_length=1)
    """The model: a folder, a Hugging Face hub id, or `bundled:mini`. With `ckpt_path`, the base model of the
    checkpoint."""

    ckpt_path: str | None = None
    """Released checkpoint to load with the base model: a file, a folder, or `hf:owner/repository/file` on the
    Hugging Face hub."""

    device: str = "auto"
    """Device to compute on: `auto` (a GPU if available, else the CPU), `cpu`, `cuda`, `cuda:1` or `mps`."""

    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Precision of the networks; `auto` is float16 on CUDA and float32 elsewhere."""

    fp8_weights: bool = False
    """Keep the denoising network's weights in 8 bits (float8_e4m3fn) and compute in `dtype`, layer by layer,
    which halves their memory against float16. Results differ visibly from those without; norms and embeddings
    keep their precision."""

    torchao: Literal["int8", "float8", "int8_dynamic", "float8_dynamic"] | None = None
    """Quantise the linear layers of the denoising network by the package torchao: the weights alone (`int8`,
    `float8`), or also what is multiplied with them (`..._dynamic`, which needs a GPU that multiplies such
    numbers). Results differ visibly from those without. Default: none."""

    cpu_offload: bool = False
    """Keep each network on the GPU only while it is used, which needs less GPU memory and more time."""

    group_offload: bool = False
    """Keep only the block of a network on the GPU that computes, and all other weights in main memory. Needs
    the least GPU memory, and the most time, because weights are copied at every step. CUDA only."""

    memory_mode: Literal["auto", "high", "balanced", "low"] = "auto"
    """GPU memory to use: `high` is fastest; `balanced` and `low` keep each network on the GPU only while it
    is used and compute spatial layers of MimicMotion a few frames, or one frame, at a time; `auto` takes the
    first of these that fits into the free memory, and a lower one if memory runs out."""

    estimator: Literal["auto", "dwpose", "blazepose"] = "auto"
    """Pose estimator: `dwpose`, the bundled `blazepose`, or `auto`: DWPose if its weights are found, else
    BlazePose."""

    densepose_model: str | None = None
    """For models driven by DensePose maps: ONNX or TorchScript file of a model that computes the maps of an
    ordinary clip (its interface is that of `mimic.models.densepose_model`). Default: none; driving
    clips have to be DensePose videos."""

    vae_path: str | None = None
    """With `ckpt_path`, for families based on Stable Diffusion: folder or hub id of the VAE, which was
    sd-vae-ft-mse in the released systems. Default: the base model's VAE."""

    estimator_weights: str | None = None
    """Folder with the DWPose files. Default: the folder that `mimic download dwpose` writes to."""

    output_dir: str = Field("outputs", min_length=1)
    """Folder for the results; `--output-dir` on the command line takes precedence."""

    test_case: tuple[CaseConfig, ...]
    """The cases to run, each with a reference picture, a driving clip and its settings."""

    @model_validator(mode="after")
    def _check_cases(self) -> InferenceConfig:
        if not self.test_case:
            raise ValueError("test_case is empty; expected at least one case")
        clash = names.first_clash(case.name for case in self.test_case if case.name is not None)
        if clash is not None:
            is_one = clash[0] == clash[1]
            twice = "two cases have the name" if is_one else f"two cases are called {shown(clash[0])} and"
            raise ValueError(
                f"{twice} {shown(clash[1])}; one result would overwrite the other, at least on some systems"
            )
        return self

    def missing_inputs(self) -> list[str]:
        """Return a line for each picture or clip whose file does not exist; files are not opened."""
        lines = []
        for name, case in zip(self.case_names(), self.test_case):
            title = f"{name}: " if len(self.test_case) > 1 else ""
            for kind, path in (("picture", case.ref_image_path), ("driving clip", case.ref_video_path)):
                if not local_path(path).exists():
                    lines.append(f"{title}there is no {kind} {path}{nearest_file(local_path(path))}")
        return lines

    def case_names(self) -> list[str]:
        """Return the name of each case, derived from its files' names if none is given; all are distinct."""
        chosen: list[str] = []
        taken = {names.same_place(case.name) for case in self.test_case if case.name is not None}
        for case in self.test_case:
            stem = names.made_safe(f"{_stem(case.ref_video_path)}_{_stem(case.ref_image_path)}")
            name, number = case.name or stem, 2
            while case.name is None and names.same_place(name) in taken:
                ending = f"_{number}"
                name = names.shortened(stem, names.MAX_STEM_BYTES - len(ending)) + ending
                number += 1
            taken.add(names.same_place(name))
            chosen.append(name)
        return chosen


def load_inference_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> InferenceConfig:
    """Read an inference YAML.

    Args:
        path: the YAML file.
        overrides: changes, each ``key=value``. One without a case (``seed=3``) applies to all cases, one with
            a case (``test_case.0.seed=3``) to that case.

    Raises:
        ConfigError: as in `mimic.config.load_config`.
    """
    case_keys = InferenceConfig.FOR_ALL_CASES
    for_all_cases = dict(
        split_override(item, CaseConfig) for item in overrides if item.partition("=")[0].strip() in case_keys
    )
    one_case = [(item, match) for item in overrides if (match := _ONE_CASE.match(item))]
    chosen = {item for item, _ in one_case}
    others = [
        item for item in overrides if item.partition("=")[0].strip() not in case_keys and item not in chosen
    ]
    content = read_yaml(path, others, InferenceConfig)
    check_kind(content, path, "infer")
    defaults = {key: content.pop(key) for key in [*content] if key in case_keys}
    cases = content.get("test_case")
    if not isinstance(cases, list):
        if cases is not None:
            raise ConfigError(
                f"{path}: test_case is {shown(cases)}; expected a list of cases (`- ref_image_path: …`)"
            )
        return build(InferenceConfig, content, source=path)
    own: dict[int, dict[str, Any]] = {}
    for item, match in one_case:
        if int(match[1]) >= len(cases):
            raise ConfigError(
                f"cannot set {item.partition('=')[0]}: test_case has {len(cases)} entries, numbered from 0; "
                f"there is no {match[1]}"
            )
        own.setdefault(int(match[1]), {}).update([split_override(match[2], CaseConfig)])
    content["test_case"] = [
        # Overrides of one case take precedence over overrides of all cases.
        merged(defaults, case, for_all_cases, own.get(number, {})) if isinstance(case, Mapping) else case
        for number, case in enumerate(cases)
    ]
    return build(InferenceConfig, content, source=path)


def merged(*settings: Mapping[str, Any]) -> dict[str, Any]:
    """Merge settings; later ones take precedence over earlier ones, also over alternatives to them, such as
    `resolution` over `height` and `width`."""
    merged: dict[str, Any] = {}
    for layer in settings:
        for said, displaced in _displacements():
            if any(layer.get(key) is not None for key in said):
                merged = {key: value for key, value in merged.items() if key not in displaced}
        merged.update(layer)
    return merged


def _displacements() -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    for one_way, other_way in (
        *(((released,), (ours,)) for released, ours in CaseConfig.OTHER_NAMES.items()),
        (("resolution",), ("height", "width")),
        (("guidance_scale",), ("min_guidance_scale", "max_guidance_scale")),
    ):
        yield one_way, other_way
        yield other_way, one_way


def _stem(path: str) -> str:
    return Path(path.removeprefix("bundled:")).stem or "case"
