"""Schema of an inference YAML: the keys of the released MimicMotion, and further settings."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from mimic import names
from mimic.config.loading import Config, ConfigError, build, check_kind, read_yaml, split_override
from mimic.config.sampling import ControlSettings, SVDSettings
from mimic.files import local_path
from pose.adjust import Adjustment

_ONE_CASE = re.compile(r"^test_case\.(\d+)\.(\w+=.*)$", re.DOTALL)

MAX_SIDE = 8192
"""Maximum height and width of a result in pixels."""


class CaseSettings(SVDSettings, ControlSettings):
    """Settings of one case, in which a reference picture is animated with the motion of a driving clip.

    A setting that is omitted or null, and has no default here, takes the value stored with the model's
    weights, else the released value.
    """

    OTHER_NAMES: ClassVar[Mapping[str, str]] = {"num_frames": "tile_size", "frames_overlap": "tile_overlap"}
    """Names of settings in the released MimicMotion; both names are accepted."""

    max_frames: int | None = Field(None, ge=1)
    """Maximum number of driving frames to use, counted after `sample_stride`. Default: the whole clip."""

    start: float = Field(0, ge=0)
    """Where in the driving clip to begin, in seconds."""

    end: float | None = Field(None, gt=0)
    """Where in the driving clip to end, in seconds. Default: its end."""

    sample_stride: int | None = Field(None, ge=1)
    """Use every n-th frame of the driving clip; for clips of 48 fps or more, n is
    `sample_stride * int(fps / 24)`. Default: 2 as released, and 1 for clips of less than 20 fps unless
    `compat` is `released`."""

    fps: float | None = Field(None, gt=0, le=240)
    """Frames per second of the result. Default: the rate of the driving frames, so that motion keeps its
    speed."""

    resolution: int | None = Field(None, ge=36, le=MAX_SIDE)
    """Short side of the result in pixels. The long side follows from an aspect ratio of 9:16, portrait or
    landscape as the reference picture is."""

    height: int | None = Field(None, ge=16, le=MAX_SIDE)
    """Height of the result in pixels; give it together with `width` and without `resolution`."""

    width: int | None = Field(None, ge=16, le=MAX_SIDE)
    """Width of the result in pixels; give it together with `height` and without `resolution`."""

    fit: Literal["crop", "pad"] | None = None
    """How a reference picture with another aspect ratio than the result is fitted: `crop` cuts out its centre
    (as released), `pad` keeps the whole picture and extends its edges. Default: the value stored with the
    model, else `crop`."""

    seed: int = Field(42, ge=0, lt=2**63)
    """Seed of the noise; the same seed on the same device gives the same video."""

    person: Literal["largest", "center", "all"] | int = "largest"
    """Person of the driving clip whose motion is used: `largest`, `center`, an index counted from the left
    (starting at 0), or `all` persons."""

    reference_person: Literal["largest", "center", "all"] | int | None = None
    """Person of the reference picture that is animated: `largest`, `center`, an index counted from the left
    (starting at 0), or `all` persons. Default: `all` with `person: all` and `align: robust` or `limbs`, else
    `largest`."""

    pairs: dict[int, int] | None = None
    """With `person: all` and `align: robust` or `limbs`: which person of the clip moves which person of the
    picture, both counted from the left, starting at 0. Default: from left to right."""

    align: Literal["released", "robust", "limbs", "none"] = "released"
    """How driving poses are aligned with the body of the reference: `released` as in the released code,
    `robust` also for partly visible bodies and missing joints, `limbs` like `robust` and with the length of
    each limb, `none` not at all."""

    anchor: Literal["first", "mean", "ground"] | None = None
    """Where `align: robust` and `limbs` place the person: `first` puts the clip's first frame where the
    reference stands, `mean` the clip's mean position, `ground` is `first` with the feet on the reference's
    ground. Default: `ground`, or `first` where no feet are seen."""

    adjust: dict[str, Any] | None = None
    """Corrections of the fitted driving poses: `scale`, `offset: [right, down]`, `rotate` in degrees, `limbs`
    (factors by name) and `keyframes` that move points; see docs/fitting.md. Default: none."""

    smooth: int = Field(1, ge=1)
    """Number of frames, odd, over which driving poses are smoothed along time; 1 disables smoothing."""

    bridge_gaps: float = Field(0.3, ge=0, le=10)
    """Gaps of the driving poses up to this length, in seconds, are bridged from both sides with falling
    confidence; 0 for off. Not with `align: released`."""

    missing: Literal["cut", "hold", "fade", "fail"] = "cut"
    """Where the person is not seen for longer than `bridge_gaps`: `cut` draws no skeleton (as released),
    `hold` keeps the last pose, `fade` fades it out and the next one in, `fail` stops before anything is
    generated."""

    draw: Literal["confidence", "binary"] = "confidence"
    """Brightness of the drawn skeletons: `confidence` scales each joint and limb with the estimator's
    confidence, `binary` draws all of them at full brightness."""

    background: Literal["generated", "reference"] = "generated"
    """Background of the result: `generated` as the model draws it, or the `reference` picture's, with the
    generated person laid over it. For models driven by skeletons."""

    audio: Literal["keep", "drop"] = "keep"
    """`keep` copies the driving clip's audio to the result, in sync with it; `drop` writes no audio."""

    side_by_side: bool = False
    """Also write `<name>_side_by_side.mp4`, which shows reference, driving maps and result next to each
    other."""

    preview: bool = False
    """While denoising runs, write `<name>_preview.mp4` after each step: a small clip, made without the
    decoder. It is removed when the result is complete."""

    crf: int = Field(18, ge=0, le=51)
    """Constant rate factor of H.264, from 0 (lossless) over 18 (visually lossless) to 51 (worst); VP9
    (`.webm`) gets the corresponding value of its own scale."""

    @model_validator(mode="before")
    @classmethod
    def _take_released_names(cls, content: object) -> object:
        if not isinstance(content, Mapping):
            return content
        content = dict(content)
        for released, ours in cls.OTHER_NAMES.items():
            if released in content:
                value = content.pop(released)
                if content.setdefault(ours, value) != value:
                    raise ValueError(
                        f"{released} is {value!r} and {ours} is {content[ours]!r}, but both name the same "
                        "setting; give one"
                    )
        return content

    @field_validator("person", "reference_person", mode="after")
    @classmethod
    def _check_person(cls, person: str | int | None) -> str | int | None:
        if isinstance(person, int) and person < 0:
            raise ValueError(f"person {person} is invalid; expected largest, center, all or an index from 0")
        return person

    @field_validator("adjust", mode="after")
    @classmethod
    def _check_adjust(cls, adjust: dict[str, Any] | None) -> dict[str, Any] | None:
        if adjust is not None:
            Adjustment.from_dict(adjust)
        return adjust

    @field_validator("smooth", mode="after")
    @classmethod
    def _check_smooth(cls, smooth: int) -> int:
        if smooth % 2 == 0:
            raise ValueError(f"smooth is {smooth}; expected an odd number of frames: 1 (off), 3, 5, …")
        return smooth

    @model_validator(mode="after")
    def _agree(self) -> CaseSettings:
        if self.end is not None and self.end <= self.start:
            raise ValueError(
                f"end is {self.end:g} s, and start {self.start:g} s; end must be later than start"
            )
        if (self.height is None) != (self.width is None):
            raise ValueError("only one of height and width is given; give both, or resolution")
        if self.height is not None and self.resolution is not None:
            raise ValueError("give either resolution, or height and width")
        if (self.min_guidance_scale is None) != (self.max_guidance_scale is None):
            raise ValueError(
                "only one of min_guidance_scale and max_guidance_scale is given; give both, or guidance_scale"
            )
        if self.min_guidance_scale is not None and self.guidance_scale is not None:
            raise ValueError("give either guidance_scale, or min_guidance_scale and max_guidance_scale")
        if self.anchor is not None and self.align not in ("robust", "limbs"):
            raise ValueError(
                f"anchor is {self.anchor}, but align: {self.align} does not use it; set align: limbs or "
                "align: robust, or remove anchor"
            )
        if self.pairs is not None:
            if self.person != "all" or self.align not in ("robust", "limbs"):
                raise ValueError("pairs needs person: all and align: robust or limbs")
            if min([*self.pairs, *self.pairs.values()], default=0) < 0:
                raise ValueError(f"pairs is {self.pairs}; people are counted from 0, from the left")
        tile_size, overlap = self.tile_size, self.tile_overlap
        if tile_size is not None and overlap is not None and overlap >= tile_size:
            raise ValueError(
                f"frames_overlap is {overlap}, but a window (num_frames) has {tile_size} frames; "
                "the overlap must be smaller"
            )
        return self

    def sampling(self) -> dict[str, Any]:
        """Return the given settings that the pipeline's call takes, by name."""
        names = (name for kind in (SVDSettings, ControlSettings) for name in kind.model_fields)
        return {name: value for name in names if (value := getattr(self, name)) is not None}


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

    cpu_offload: bool = False
    """Keep each network on the GPU only while it is used, which needs less GPU memory and more time."""

    memory_mode: Literal["auto", "high", "balanced", "low"] = "auto"
    """GPU memory to use: `high` is fastest; `balanced` and `low` keep each network on the GPU only while it
    is used and compute spatial layers of MimicMotion a few frames, or one frame, at a time; `auto` takes the
    first of these that fits into the free memory, and a lower one if memory runs out."""

    estimator: Literal["auto", "dwpose", "blazepose"] = "auto"
    """Pose estimator: `dwpose`, the bundled `blazepose`, or `auto`: DWPose if its weights are found, else
    BlazePose."""

    densepose_model: str | None = None
    """For models driven by DensePose maps: ONNX or TorchScript file of a model that computes the maps of an
    ordinary clip (its interface is described in `mimic/models/densepose_model.py`). Default: none; driving
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
            twice = "two cases have the name" if is_one else f"two cases are called {clash[0]!r} and"
            raise ValueError(
                f"{twice} {clash[1]!r}; one result would overwrite the other, at least on some systems"
            )
        return self

    def missing_inputs(self) -> list[str]:
        """Return a line for each picture or clip whose file does not exist; files are not opened."""
        lines = []
        for name, case in zip(self.case_names(), self.test_case):
            for kind, path in (("picture", case.ref_image_path), ("driving clip", case.ref_video_path)):
                if not local_path(path).exists():
                    lines.append(f"{name}: there is no {kind} {path}")
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
                f"{path}: test_case is {cases!r}; expected a list of cases (`- ref_image_path: …`)"
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
