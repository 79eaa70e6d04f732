"""What an inference YAML may say: the released MimicMotion's keys as they are, and ours on top."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from mimic import names
from mimic.config.loading import Config, ConfigError, build, read_yaml, split_override
from mimic.config.sampling import ControlSettings, SVDSettings
from mimic.files import local_path

_ONE_CASE = re.compile(r"^test_case\.(\d+)\.(\w+=.*)$", re.DOTALL)


class CaseSettings(SVDSettings, ControlSettings):
    """How a picture is to move as a driving clip does.

    A setting that is left out (or null) and has no default here takes the value that belongs to the
    model's weights, and where those say nothing the released one.
    """

    OTHER_NAMES: ClassVar[Mapping[str, str]] = {"num_frames": "tile_size", "frames_overlap": "tile_overlap"}
    """Released names, which say less, of settings below. Both spellings are taken."""

    max_frames: int | None = Field(None, ge=1)
    """Use at most so many driving frames; left out, the whole clip."""

    sample_stride: int = Field(2, ge=1)
    """Every how-manieth frame is taken from a clip below 48 fps; of faster ones `stride * int(fps / 24)`."""

    fps: float | None = Field(None, gt=0, le=240)
    """Frames a second of the result. Left out: as many as the driving frames have, so that time is real."""

    resolution: int | None = Field(None, ge=36)
    """Short side of the result; the long one follows at 9:16, portrait or landscape as the reference is."""

    height: int | None = Field(None, ge=16)
    """With `width`, the size of the result, in place of `resolution`."""

    width: int | None = Field(None, ge=16)
    """With `height`, the size of the result."""

    fit: Literal["crop", "pad"] | None = None
    """A picture of another shape than the result: `crop` takes its middle (released), `pad` continues its
    edges and keeps all of it. Left out: what suits the model."""

    seed: int = Field(42, ge=0, lt=2**63)
    """Seed of the noise: same seed, same device, same video."""

    person: Literal["largest", "center", "all"] | int = "largest"
    """Whom to follow in the driving clip: `largest`, `center`, an index counted from the left; or `all`."""

    reference_person: Literal["largest", "center", "all"] | int = "largest"
    """Who in the picture is to move, chosen in the same way."""

    align: Literal["released", "robust", "none"] = "released"
    """How driving poses are fitted to the reference's body; `robust` takes half bodies, missing joints."""

    smooth: int = Field(1, ge=1)
    """Window in frames of the poses' smoothing over time, odd; 1 means none."""

    draw: Literal["confidence", "binary"] = "confidence"
    """Whether skeletons are drawn as bright as the estimator is sure, or all at full brightness."""

    audio: Literal["keep", "drop"] = "keep"
    """Carry the driving clip's sound along, in step with the result."""

    side_by_side: bool = False
    """Also write `<name>_side_by_side.mp4`: reference, skeleton, result."""

    crf: int = Field(18, ge=0, le=51)
    """Quality of the H.264 files: 0 lossless, 18 visually lossless, 51 worst."""

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
                        f"{released} is {value!r} and {ours} is {content[ours]!r}, two names of one setting; "
                        "give one"
                    )
        return content

    @field_validator("person", "reference_person", mode="after")
    @classmethod
    def _check_person(cls, person: str | int) -> str | int:
        if isinstance(person, int) and person < 0:
            raise ValueError(f"person {person} cannot be; expected largest, center, all or an index from 0")
        return person

    @field_validator("smooth", mode="after")
    @classmethod
    def _check_smooth(cls, smooth: int) -> int:
        if smooth % 2 == 0:
            raise ValueError(f"smooth is {smooth}; a window has an odd number of frames: 1 (none), 3, 5, …")
        return smooth

    @model_validator(mode="after")
    def _agree(self) -> CaseSettings:
        if (self.height is None) != (self.width is None):
            raise ValueError("height and width go together; give both, or resolution")
        if self.height is not None and self.resolution is not None:
            raise ValueError("give either resolution, or height and width")
        if (self.min_guidance_scale is None) != (self.max_guidance_scale is None):
            raise ValueError("min_guidance_scale and max_guidance_scale go together; or give guidance_scale")
        if self.min_guidance_scale is not None and self.guidance_scale is not None:
            raise ValueError("give either guidance_scale, or min_guidance_scale and max_guidance_scale")
        tile_size, overlap = self.tile_size, self.tile_overlap
        if tile_size is not None and overlap is not None and overlap >= tile_size:
            raise ValueError(
                f"frames_overlap is {overlap}, but a window (num_frames) has {tile_size} frames; "
                "the overlap must be smaller"
            )
        return self

    def sampling(self) -> dict[str, Any]:
        """Settings of the pipeline's call that are given."""
        names = (name for kind in (SVDSettings, ControlSettings) for name in kind.model_fields)
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class CaseConfig(CaseSettings):
    """One picture and one driving clip, and how it is to be done."""

    ref_image_path: str = Field(min_length=1)
    """The reference picture: whose looks the result has."""

    ref_video_path: str = Field(min_length=1)
    """The driving clip: whose movements the result has. Or a `.npz` of poses, as `mimic pose` writes it."""

    name: str | None = None
    """Results are `<output-dir>/<name>.mp4` and `.json`. Left out: the names of clip and picture, shortened
    and without characters that some system refuses."""

    @field_validator("name", mode="after")
    @classmethod
    def _check_name(cls, name: str | None) -> str | None:
        fault = None if name is None else names.fault_of(name)
        if fault is not None:
            remedy = f"Choose another, such as {names.made_safe(name or '')!a}"
            raise ValueError(f"name is {name!a}; {fault}. {remedy}")
        return name


class InferenceConfig(Config):
    """A model and the cases to run with it.

    In the YAML a case's setting may stand at the top level too; it then holds for every case
    that does not say otherwise.
    """

    FOR_ALL_CASES: ClassVar[frozenset[str]] = frozenset({*CaseConfig.model_fields, *CaseConfig.OTHER_NAMES})
    """Keys that may stand at the top level for all cases."""

    base_model_path: str = Field("bundled:mini", min_length=1)
    """The model: a folder, an id of the Hugging Face hub, or `bundled:mini`."""

    ckpt_path: str | None = None
    """A released checkpoint to load over it: a file, or `hf:owner/repository/file` of the hub."""

    device: str = "auto"
    """`auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1`, `mps`."""

    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Precision of the networks; `auto` is float16 on a GPU, float32 on the CPU."""

    cpu_offload: bool = False
    """Keep each network on the GPU only while it works, for GPUs with less memory."""

    estimator: Literal["auto", "dwpose", "blazepose"] = "auto"
    """Which pose estimator; `auto` is DWPose where its weights are, else the bundled one."""

    densepose_model: str | None = None
    """For models that DensePose drives: an ONNX or TorchScript file that makes the maps of ordinary clips
    (`mimic/models/densepose_model.py` tells of what kind). Left out, driving clips are DensePose videos."""

    vae_path: str | None = None
    """With `ckpt_path`, for families on Stable Diffusion: folder or hub id of another VAE than the base's,
    sd-vae-ft-mse as released."""

    estimator_weights: str | None = None
    """Folder with the DWPose files, if not where `mimic download dwpose` puts them."""

    output_dir: str = Field("outputs", min_length=1)
    """Folder for the results; `--output-dir` goes before."""

    test_case: tuple[CaseConfig, ...]
    """The cases: pictures and clips, and how each is to be done."""

    @model_validator(mode="after")
    def _check_cases(self) -> InferenceConfig:
        if not self.test_case:
            raise ValueError("test_case is empty; expected at least one case")
        clash = names.first_clash(case.name for case in self.test_case if case.name is not None)
        if clash is not None:
            is_one = clash[0] == clash[1]
            twice = "two cases have the name" if is_one else f"two cases are called {clash[0]!r} and"
            raise ValueError(
                f"{twice} {clash[1]!r}; one result would overwrite the other, on some systems at least"
            )
        return self

    def missing_inputs(self) -> list[str]:
        """A line for each picture or clip that is not there; a look at names alone, which costs nothing."""
        lines = []
        for name, case in zip(self.case_names(), self.test_case):
            for kind, path in (("picture", case.ref_image_path), ("driving clip", case.ref_video_path)):
                if not local_path(path).exists():
                    lines.append(f"{name}: there is no {kind} {path}")
        return lines

    def case_names(self) -> list[str]:
        """The name of each case, made of its files' names where none is given; all different."""
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
    """Read an inference YAML; an override without a case (``seed=3``) holds for all cases.

    Raises:
        ConfigError: see `mimic.config.load_config`.
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
        # What is said of one case counts more than what is said of all.
        _merged(defaults, case, for_all_cases, own.get(number, {})) if isinstance(case, Mapping) else case
        for number, case in enumerate(cases)
    ]
    return build(InferenceConfig, content, source=path)


def _merged(*settings: Mapping[str, Any]) -> dict[str, Any]:
    """Later settings go before earlier ones: under whichever name, and as whichever of two ways to say it."""
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
