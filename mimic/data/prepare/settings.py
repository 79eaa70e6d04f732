"""What can be chosen when videos are prepared, and what a prepared folder remembers of it."""

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
"""Settings that may change from run to run: they ask for no video to be looked at again."""


class PrepareSettings(Config):
    """What serves as a clip, and how its poses are found."""

    estimator: Literal["auto", "dwpose", "blazepose"] = "auto"
    """What finds the poses; `auto` is DWPose where its files are, else the bundled BlazePose."""
    weights: Path | None = None
    """The folder of the DWPose files, where it is not the usual one."""
    person: str = ONLY_ONE
    """Whom to follow: `one` drops clips with several people; `largest`, `center` or a number counted from the
    left follows that one among them."""
    min_frames: int = Field(default=16, ge=1)
    """Fewer frames are too short for a clip."""
    max_seconds: float = Field(default=60.0, ge=1)
    """Longer shots are divided evenly, so that files stay small and many processes share the work."""
    min_size: int = Field(default=256, ge=1)
    """Pixels of the shorter side; less is too small."""
    min_coverage: float = Field(default=0.8, gt=0, le=1)
    """Least share of a clip's frames that show the person."""
    max_gap_seconds: float = Field(default=0.5, ge=0)
    """A clip ends where the person is away for longer."""
    other_size: float = Field(default=0.4, gt=0)
    """With `person: one`: people smaller than this share of the one followed are taken for background."""
    max_others: float = Field(default=0.1, ge=0, le=1)
    """With `person: one`: more than this share of looks that show another person drops the clip."""
    val_share: float = Field(default=0.1, ge=0, lt=1)
    """Share of the videos that are kept for validation; 0 keeps none."""
    seed: int = 0
    """Which videos those are, and which clips the contact sheet shows."""

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
        """The person as the estimators take it."""
        return "largest" if self.person == ONLY_ONE else check_choice(self.person)


def remembered(settings: PrepareSettings) -> dict[str, Any]:
    """The settings as a prepared folder remembers them: with the estimator that `auto` means here.

    Raises:
        pose.dwpose.EstimatorWeightsError: DWPose was asked for and its files are missing.
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
    """Settle that a folder is gone on with as it was begun.

    Raises:
        DataError: a setting differs that changes what was found in the videos.
    """
    for key, value in now.items():
        if key not in WITHOUT_WORK and before.get(key) != value:
            raise DataError(
                f"{folder} was prepared with {key}: {before.get(key)}, now it is {value}. Give the same, or "
                f"prepare into another folder"
            )


def _digest(path: Path) -> str:
    """Enough of the SHA-256 of a file to tell it from others."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**22):
            found.update(block)
    return found.hexdigest()[:16]
