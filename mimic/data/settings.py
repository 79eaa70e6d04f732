"""Settings of training data: which clips are used, how they are cut, drawn and masked (`data:` in YAML)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from mimic.config.loading import Config

Region = Literal["hands", "face", "person"]

ONLY_SYNTHETIC = (
    "num_clips", "num_val_clips", "seconds", "fps", "world", "dancer_seed", "noise_strength",
    "noise_varies", "supersample",
)  # fmt: skip
ONLY_PREPARED = ("path", "videos", "densepose_videos")


class DataSettings(Config):
    """Where clips come from and what a sample of them is."""

    source: Literal["prepared", "synthetic"] = "prepared"
    """prepared: a folder that `mimic prepare` made. synthetic: dancers, rendered as they are needed."""

    path: str | None = None
    """The prepared folder."""

    videos: str | None = None
    """Where the prepared folder's videos are now, if they have moved since."""

    height: int = Field(1024, ge=16)
    """Height of the frames in pixels, a multiple of `latent_downscale`."""

    width: int = Field(576, ge=16)
    """Width of the frames in pixels, a multiple of `latent_downscale`."""

    num_frames: int = Field(16, ge=1)
    """Frames to be generated in a sample; the reference comes on top."""

    stride: int = Field(2, ge=1)
    """Keep every n-th frame of clips below 48 fps; of faster clips every `stride * int(fps / 24)`-th, as
    `sample_stride` does at inference."""

    reference_margin: int = Field(0, ge=0)
    """Minimum distance in frames between the reference and the sample's frames. 0: it may be one of them."""

    reference_from: Literal["video", "clip"] = "video"
    """video: the reference is any frame of the same video's clips. clip: of the same clip, for videos of
    which different scenes show different people or clothes."""

    crop: Literal["centre", "random", "person"] = "centre"
    """Which part is cut from frames of another aspect than the sample's: the middle, anywhere, or around the
    person. In validation random means the middle."""

    zoom: tuple[float, float] = (1.0, 1.0)
    """The part that is cut is smaller than the largest possible by a factor drawn between these; in
    validation by the first."""

    flip: bool = False
    """Mirror every other sample; left and right of the poses change places. Not in validation."""

    regions: tuple[Region, ...] = ("hands",)
    """Regions that get a mask, for losses that weigh them."""

    hand_threshold: float = Field(0.8, ge=0)
    """A hand has a mask where all its points score above this. The paper does not publish its threshold."""

    face_threshold: float = Field(0.8, ge=0)
    """A face has a mask where all its points score above this."""

    person_threshold: float = Field(0.3, ge=0)
    """A person's mask is the rectangle around all points of the body that score above this."""

    region_margin: float = Field(0.0, ge=0)
    """How far a region reaches beyond its points on each side, in longer sides of the points' rectangle."""

    confidence_maps: bool = True
    """Draw skeletons as bright as the estimator is sure; false draws all above 0.3 at full brightness."""

    canvas_short_side: int = Field(2160, ge=16)
    """Short side in pixels of the canvas that skeletons are drawn on (2160 as released); what a model was
    trained with it needs at inference."""

    pose_kind: Literal["skeleton", "densepose"] = "skeleton"
    """What the pose maps show: drawn skeletons, or the parts of the body's surface (DensePose)."""

    densepose_videos: str | None = None
    """Prepared, with `pose_kind: densepose`: a folder with the DensePose video of each video, under the same
    path or with `.densepose.mp4` in place of the suffix. Synthetic dancers have theirs anyway."""

    latent_downscale: int = Field(8, ge=1)
    """Pixels of a frame to one of its latents, each way: the VAE's."""

    num_clips: int = Field(64, ge=1)
    """Synthetic: how many dancers to train on."""

    num_val_clips: int = Field(4, ge=1)
    """Synthetic: how many other dancers to validate on."""

    seconds: float = Field(4.0, gt=0)
    """Synthetic: how long each dances."""

    fps: float = Field(8.0, gt=0)
    """Synthetic: frames a second of that."""

    world: Literal["plain", "rich"] = "plain"
    """Synthetic: how rich the dancers' world is."""

    dancer_seed: int = Field(0, ge=0)
    """Synthetic: decides who the dancers are, whatever the training's seed."""

    noise_strength: float = Field(0.0, ge=0)
    """Synthetic: strength of a detector's errors in the poses; 0 leaves them exact, 1 is usual."""

    noise_varies: bool = False
    """Synthetic: draw the strength for each sample evenly from 0 to `noise_strength`."""

    supersample: int = Field(2, ge=1)
    """Synthetic: samples of a pixel along each axis."""

    @model_validator(mode="after")
    def _check(self) -> DataSettings:
        if self.source == "prepared" and not self.path:
            raise ValueError(
                "source is prepared, but there is no path; give the folder that `mimic prepare` made, "
                "or source: synthetic"
            )
        if self.source == "prepared" and self.pose_kind == "densepose" and not self.densepose_videos:
            raise ValueError(
                "pose_kind is densepose, and a prepared folder holds skeletons; name the folder of DensePose "
                "videos: densepose_videos"
            )
        foreign = ONLY_SYNTHETIC if self.source == "prepared" else ONLY_PREPARED
        given = [
            name for name in foreign if name in self.model_fields_set and getattr(self, name) is not None
        ]
        if given:
            raise ValueError(f"{', '.join(given)} means nothing with source: {self.source}; leave it out")
        for name in ("height", "width"):
            size = getattr(self, name)
            if size % self.latent_downscale:
                raise ValueError(
                    f"{name} is {size}; expected a multiple of latent_downscale, {self.latent_downscale}"
                )
        if not 1 <= self.zoom[0] <= self.zoom[1]:
            raise ValueError(f"zoom is {list(self.zoom)}; expected two factors, 1 <= first <= second")
        if len(set(self.regions)) < len(self.regions):
            raise ValueError(f"regions are {list(self.regions)}; name each once")
        return self
