"""Settings of training data (`data:` in YAML): clips, crops, pose maps and masks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mimic.config.loading import Config

Region = Literal["hands", "face", "person"]

ONLY_SYNTHETIC = (
    "num_clips", "num_val_clips", "seconds", "fps", "world", "dancer_seed", "noise_strength",
    "noise_varies", "supersample",
)  # fmt: skip
ONLY_PREPARED = ("path", "videos", "densepose_videos", "sizes")


def foreign_to(source: str) -> tuple[str, ...]:
    """Return the settings that have no effect with a source of clips."""
    return ONLY_SYNTHETIC if source == "prepared" else ONLY_PREPARED


class DataSettings(Config):
    """Source of the clips and content of a sample."""

    source: Literal["prepared", "synthetic"] = "prepared"
    """Source of the clips. `prepared`: a folder made by `mimic prepare`; `synthetic`: dancers, rendered on
    demand."""

    path: str | None = None
    """Prepared: the folder made by `mimic prepare`; required with `source: prepared`."""

    videos: str | None = None
    """Prepared: current folder of the videos, if they have been moved. Default: the recorded one."""

    height: int = Field(1024, ge=16)
    """Height of the frames in pixels, a multiple of `latent_downscale`."""

    width: int = Field(576, ge=16)
    """Width of the frames in pixels, a multiple of `latent_downscale`."""

    sizes: tuple[tuple[int, int], ...] = ()
    """Prepared: further sizes [height, width] of samples, for clips of other aspect ratios. Each clip has the
    size whose aspect ratio is nearest to its own, and a batch has clips of one size. Sizes of equal area need
    equal memory."""

    num_frames: int = Field(16, ge=1)
    """Number of frames to generate per sample, not counting the reference."""

    stride: int = Field(2, ge=1)
    """Keep every N-th frame of a clip; for clips of 48 fps or more, N is `stride * int(fps / 24)`, as with
    `sample_stride` at inference."""

    reference_margin: int = Field(0, ge=0)
    """Minimum distance between the reference and the sample's frames, in frames of the clip; 0: the reference
    may be one of them."""

    reference_from: Literal["video", "clip"] = "video"
    """Source of the reference. `video`: any clip of the same video; `clip`: the same clip, for videos whose
    scenes show different people or clothes."""

    references: int = Field(1, ge=1)
    """How often each sample is used in its step, each time with another of its pictures (the reference and
    the frames) as the reference. Pictures are rendered or read, and encoded, once for all of them, so that
    more windows are trained on in the same time; the step's batch is as many times larger."""

    crop: Literal["centre", "random", "person"] = "centre"
    """Position of the crop box in frames: `centre`, `random`, or `person` (centred on the person). In
    validation, `random` is the same as `centre`."""

    zoom: tuple[float, float] = (1.0, 1.0)
    """Range [low, high] of the zoom factor, at least 1, by which the crop box is smaller than the largest
    possible one; drawn for each sample. Validation uses the first value."""

    flip: bool = False
    """Mirror samples with probability 1/2, and swap left and right of their poses; not in validation."""

    regions: tuple[Region, ...] = ("hands",)
    """Regions for which masks are computed, for losses that weigh them: `hands`, `face`, `person`."""

    hand_threshold: float = Field(0.8, ge=0)
    """Minimum score of all keypoints of a hand for the hand to be masked. The paper does not publish its
    threshold."""

    face_threshold: float = Field(0.8, ge=0)
    """Minimum score of all keypoints of a face for the face to be masked."""

    person_threshold: float = Field(0.3, ge=0)
    """Minimum score of a body keypoint for it to be included in the bounding box that masks a person."""

    region_margin: float = Field(0.0, ge=0)
    """Distance by which a region's bounding box is enlarged on each side, as a fraction of its longer
    side."""

    confidence_maps: bool = True
    """Scale the brightness of skeletons with the estimator's confidence; false draws all keypoints with a
    score above 0.3 at full brightness."""

    canvas_short_side: int = Field(2160, ge=16)
    """Short side in pixels of the canvas on which skeletons are drawn (2160 as released); a model needs the
    value that it was trained with also at inference."""

    pose_kind: Literal["skeleton", "densepose"] = "skeleton"
    """Content of the pose maps: `skeleton`, or `densepose` (parts of the body's surface)."""

    densepose_videos: str | None = None
    """Prepared, with `pose_kind: densepose`: folder with the DensePose video of each video, at the same
    relative path or with `.densepose.mp4` instead of its suffix. Synthetic dancers need none."""

    latent_downscale: int = Field(8, ge=1)
    """Factor by which the VAE downsamples height and width."""

    num_clips: int = Field(64, ge=1)
    """Synthetic: number of dancers for training."""

    num_val_clips: int = Field(4, ge=1)
    """Synthetic: number of other dancers for validation."""

    seconds: float = Field(4.0, ge=0.001, le=86_400)
    """Synthetic: duration of each clip in seconds."""

    fps: float = Field(8.0, ge=0.01, le=1000)
    """Synthetic: frames per second of the clips."""

    world: Literal["plain", "portraits", "rich"] = "plain"
    """Synthetic: variety of dancers, clothes, rooms and motion. `plain`: whole bodies from the front;
    `portraits`: the same with half bodies, busts and close-ups; `rich`: all variation."""

    dancer_seed: int = Field(0, ge=0)
    """Synthetic: seed of the dancers, independent of the training's seed."""

    noise_strength: float = Field(0.0, ge=0)
    """Synthetic: strength of simulated detector errors in the poses; 0 keeps exact poses, 1 is typical."""

    noise_varies: bool = False
    """Synthetic: draw the strength of detector errors for each sample uniformly from 0 to
    `noise_strength`."""

    supersample: int = Field(2, ge=1)
    """Synthetic: number of rendered samples per pixel along each axis, for antialiasing."""

    @property
    def all_sizes(self) -> tuple[tuple[int, int], ...]:
        """All sizes (height, width) of samples."""
        return ((self.height, self.width), *self.sizes)

    @model_validator(mode="after")
    def _check(self) -> DataSettings:
        if self.source == "prepared" and not self.path:
            raise ValueError(
                "source is prepared, but there is no path; give the folder made by `mimic prepare`, or "
                "source: synthetic"
            )
        if self.source == "prepared" and self.pose_kind == "densepose" and not self.densepose_videos:
            raise ValueError(
                "pose_kind is densepose, and a prepared folder holds skeletons; name the folder of DensePose "
                "videos: densepose_videos"
            )
        given = [
            name
            for name in foreign_to(self.source)
            if name in self.model_fields_set and getattr(self, name) not in (None, ())
        ]
        if given:
            has, it = ("has", "it") if len(given) == 1 else ("have", "them")
            raise ValueError(f"{', '.join(given)} {has} no effect with source: {self.source}; leave {it} out")
        for name in ("height", "width"):
            size = getattr(self, name)
            if size % self.latent_downscale:
                raise ValueError(
                    f"{name} is {size}; expected a multiple of latent_downscale, {self.latent_downscale}"
                )
        for size in self.sizes:
            if any(side < 16 or side % self.latent_downscale for side in size):
                raise ValueError(
                    f"sizes has {list(size)}; expected multiples of latent_downscale, "
                    f"{self.latent_downscale}, from 16"
                )
        if len(set(self.all_sizes)) < len(self.all_sizes):
            raise ValueError(
                f"sizes are {[list(size) for size in self.sizes]} besides [{self.height}, {self.width}]; "
                "name each once"
            )
        if self.references > self.num_frames + 1:
            raise ValueError(
                f"references is {self.references}; a sample has {self.num_frames + 1} pictures: num_frames "
                "and the reference"
            )
        if not 1 <= self.zoom[0] <= self.zoom[1]:
            raise ValueError(f"zoom is {list(self.zoom)}; expected two factors, 1 <= first <= second")
        if len(set(self.regions)) < len(self.regions):
            raise ValueError(f"regions are {list(self.regions)}; name each once")
        return self
