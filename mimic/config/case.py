"""Settings of one case: a picture animated with the motion of a clip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from mimic.config.sampling import ControlSettings, SVDSettings
from pose.adjust import Adjustment
from pose.text import shown

MAX_SIDE = 8192
"""Maximum height and width of a result in pixels."""


class CaseSettings(SVDSettings, ControlSettings):
    """Settings of one case, in which a reference picture is animated with the motion of a driving clip.

    A setting that is omitted or null, and has no default here, takes the value stored with the model's
    weights, else the released value.
    """

    OTHER_NAMES: ClassVar[Mapping[str, str]] = {"num_frames": "tile_size", "frames_overlap": "tile_overlap"}
    """Names of settings in the released MimicMotion; both names are accepted."""
    LISTED_BY: ClassVar[str] = "mimic configs --keys infer"

    max_frames: int | None = Field(None, ge=1)
    """Maximum number of driving frames to use, counted after `sample_stride`. Default: the whole clip."""

    start: float = Field(0, ge=0, le=1e9)
    """Where in the driving clip to begin, in seconds."""

    end: float | None = Field(None, gt=0, le=1e9)
    """Where in the driving clip to end, in seconds. Default: its end. A later time ends there as well, with a
    message."""

    sample_stride: int | None = Field(None, ge=1, le=1000)
    """Use every N-th frame of the driving clip; for clips of 48 fps or more, N is
    `sample_stride * int(fps / 24)`. Default: 2 as released, and 1 for clips of less than 20 fps unless
    `compat` is `released`."""

    fps: float | None = Field(None, ge=0.1, le=240)
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
    (factors by name) and `keyframes` that move points (`mimic configs --schema adjust`). Default: none."""

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
    """Also write `<name>_side_by_side.mp4`, which shows reference, driving clip, skeleton (or body parts)
    and result next to each other, with labels."""

    preview: bool = False
    """While denoising runs, write `<name>_preview.mp4` after each step: a small clip, made without the
    decoder. It is removed when the result is complete."""

    preview_decoder: str | None = None
    """A light decoder for the preview: the file of TAESDV (`taesdv.pth`) or a folder with an
    `AutoencoderTiny`. Default: `models/taesdv.pth` if it is there and the model has Stable Diffusion's VAE,
    else a linear map from latents to colours, one pixel for each latent."""

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
                        f"{released} is {shown(value)} and {ours} is {shown(content[ours])}, but both name "
                        "the same setting; give one"
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
