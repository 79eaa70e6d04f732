"""Settings of `mimic prepare`, and those that are recorded in a prepared folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from mimic.config.loading import Config
from mimic.data.index import VERSION, DataError
from pose import dwpose
from pose.load import NAMES
from pose.tracking import Followed, check_choice
from pose.types import PoseError

ONLY_ONE = "one"

WITHOUT_WORK = ("val_share", "seed")
"""Settings that may change between runs, because they do not affect the work on videos."""


class PrepareSettings(Config):
    """Requirements on clips, and how their poses are estimated."""

    estimator: Literal["auto", "dwpose", "blazepose"] = "auto"
    """Pose estimator: `dwpose`, the bundled `blazepose`, or `auto`: DWPose if its files are found, else
    BlazePose."""
    weights: Path | None = None
    """Folder with the DWPose files. Default: the folder that `mimic download dwpose` writes to."""
    person: str = ONLY_ONE
    """Person to follow: `one` drops clips with several people; `largest`, `center` or an index counted from
    the left (starting at 0) follows that person among several."""
    min_frames: int = Field(default=16, ge=1)
    """Minimum number of frames of a clip; shorter ones are rejected."""
    max_seconds: float = Field(default=60.0, ge=1, le=1e6)
    """Maximum duration of a part in seconds; longer shots are divided evenly, so that files stay small and
    several processes can share the work."""
    min_size: int = Field(default=256, ge=1)
    """Minimum length of the shorter side of a video in pixels; smaller videos are rejected."""
    min_coverage: float = Field(default=0.8, gt=0, le=1)
    """Minimum fraction of a clip's frames that show the person."""
    max_gap_seconds: float = Field(default=0.5, ge=0, le=1e6)
    """Maximum time in seconds during which the person may be missing; a clip ends at a longer gap."""
    other_size: float = Field(default=0.4, gt=0)
    """With `person: one`: people smaller than this fraction of the followed person's size are ignored."""
    max_others: float = Field(default=0.1, ge=0, le=1)
    """With `person: one`: maximum fraction of the checked frames that may show another person; with more, the
    clip is rejected."""
    val_share: float = Field(default=0.1, ge=0, lt=1)
    """Fraction of the videos that are used for validation; 0 uses none."""
    seed: int = Field(default=0, ge=0)
    """Seed for the choice of validation videos and of the clips on the contact sheet."""

    @field_validator("person")
    @classmethod
    def _is_person(cls, value: str) -> str:
        if value == ONLY_ONE:
            return value
        try:
            choice = check_choice(value)
        except PoseError:
            choice = "all"
        if choice == "all":
            raise ValueError(f"{value!r}: expected one, largest, center or a number from 0 (left to right)")
        return value

    @property
    def followed(self) -> Followed:
        """The person to follow, in the form that estimators take."""
        return "largest" if self.person == ONLY_ONE else check_choice(self.person)


def remembered(settings: PrepareSettings) -> dict[str, Any]:
    """Return the settings to record in a prepared folder, with the estimator that `auto` selects.

    Raises:
        pose.dwpose.EstimatorWeightsError: DWPose is requested and its files are missing.
    """
    content = settings.model_dump(mode="json", exclude={"weights", "estimator"})
    name = settings.estimator
    if name == "auto":
        name = "dwpose" if settings.weights is not None or dwpose.has_weights() else "blazepose"
    assert name in NAMES
    digests = None
    if name == "dwpose":
        files = dwpose.find_weights(settings.weights)
        digests = {file.name: _digest(file) for file in (files.detector, files.pose)}
    return {"version": VERSION, "estimator": name, "weights": digests, **content}


def check_same(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Check that a run is resumed with the settings that the folder was made with.

    Raises:
        DataError: a setting differs that affects the results.
    """
    for key, value in now.items():
        if key not in WITHOUT_WORK and before.get(key) != value:
            raise DataError(
                f"{folder} was prepared with {key}: {before.get(key)}, now it is {value}. Use that value, "
                f"or prepare into another folder"
            )


def _digest(path: Path) -> str:
    """Compute a shortened SHA-256 of a file."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**22):
            found.update(block)
    return found.hexdigest()[:16]
