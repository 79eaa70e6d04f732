"""What the studio does with a picture and a clip: find people, fit, generate, keep. It knows of no page.

Everything calls the functions that the command line calls. Results lie in one folder, each in a folder of its
own with its inputs and the YAML that makes it again, so that a new server finds them.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from mimic.config import CaseSettings
from mimic.config.loading import build
from mimic.devices import chosen_device
from mimic.families.base import AnimationPipeline
from mimic.families.registry import load_pipeline
from mimic.files import whole_file
from mimic.generation import generate
from mimic.generation.animate import case_plan
from mimic.generation.drivers import Driver, DriverTools, load_driver
from mimic.generation.drivers.base import POSE_SUFFIXES, used_frames
from mimic.generation.estimate import Estimate, estimate_case
from mimic.generation.preview import preview_path
from mimic.generation.reference import Reference, see_reference
from mimic.names import fault_of, shortened
from mimic.progress import Listener, Progress, listening
from mimic.video import probe, read_frames
from pose import PoseSequence, load_estimator
from pose.draw import overlay_frame
from pose.estimators import Estimator

log = logging.getLogger("mimic")

VIDEO, REPORT, RECIPE, POSES = "result.mp4", "result.json", "result.yaml", "result.npz"
MAX_SECONDS = 60.0
"""Length of a clip that the studio takes, after trimming."""

_OVERLAY_SIDE = 512
Picture = NDArray[np.uint8]


class StudioError(ValueError):
    """What was uploaded or set cannot be used; the message is for the page."""


class CancelledError(Exception):
    """The user stopped the work."""


@dataclass(frozen=True)
class Fit:
    """A motion fitted to a person, before anything is generated."""

    picture: Picture
    """The reference as the result will show it, enlarged, ``H x W x 3``."""
    poses: PoseSequence
    """Frame 0 is the reference's own pose, the driving frames follow."""
    sentences: tuple[str, ...]
    """What is poor, in words; none if nothing is."""
    facts: Mapping[str, Any]
    """Presence, alignment and fit reports, as a run's JSON has them."""

    @property
    def num_frames(self) -> int:
        """Number of driving frames."""
        return len(self.poses) - 1

    def overlay(self, frame: int) -> Picture:
        """Draw the skeleton of a driving frame, from 0, over the reference."""
        number = int(np.clip(frame, 0, self.num_frames - 1)) + 1
        assert self.poses.is_present is not None
        shown = self.poses.points[number], self.poses.scores[number], self.poses.is_present[number]
        return overlay_frame(self.picture, *shown)

    def report(self) -> str:
        """The fit in words."""
        if self.sentences:
            return "Look at the skeleton: " + "; ".join(self.sentences) + "."
        return f"The motion fits the person in all {self.num_frames} frames, as far as can be measured."


@dataclass(frozen=True)
class Result:
    """A finished result in its folder."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def video(self) -> Path:
        return self.folder / VIDEO

    @property
    def side_by_side(self) -> Path:
        path = self.folder / VIDEO.replace(".mp4", "_side_by_side.mp4")
        return path if path.is_file() else self.video

    @property
    def files(self) -> list[Path]:
        """What can be downloaded: video, poses, YAML, JSON."""
        names = (VIDEO, POSES, RECIPE, REPORT)
        return [path for name in names if (path := self.folder / name).is_file()]

    def words(self) -> str:
        """What the result is, and what was poor about it."""
        report = json.loads((self.folder / REPORT).read_text(encoding="utf-8"))
        output = report["output"]
        verdict = (report.get("verdict") or {}).get("sentences", [])
        size = f"{output['width']}x{output['height']}"
        said = f"{output['num_frames']} frames of {size}, {report['seconds']:.0f} s."
        return " ".join([said, *(f"{sentence[:1].upper()}{sentence[1:]}." for sentence in verdict)])


class Studio:
    """One model, one folder of results, one piece of work on the device at a time."""

    def __init__(
        self,
        folder: Path,
        *,
        model: str = "bundled:mini",
        device: str = "auto",
        max_seconds: float = MAX_SECONDS,
    ) -> None:
        """
        Args:
            folder: where results are kept.
            model: as `base_model_path` of a YAML.
            device: as `device` of a YAML.
            max_seconds: length of a clip, after trimming, above which it is refused.
        """
        self._max_seconds = max_seconds
        self.folder, self.model, self._device = folder, model, device
        self._turn = threading.Lock()
        self._naming = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    @cached_property
    def pipeline(self) -> AnimationPipeline[Any, Any]:
        """The model, loaded when it is first used."""
        device = chosen_device(self._device)
        return load_pipeline(self.model, device=device)

    @cached_property
    def estimator(self) -> Estimator:
        """The pose estimator: DWPose where its files are, else the bundled one."""
        return load_estimator("auto")

    @cached_property
    def driver(self) -> Driver:
        """What drives the model."""
        driver = load_driver(self.pipeline.driven_by, DriverTools(lambda: self.estimator))
        if not driver.takes_poses:
            raise StudioError(
                f"{self.model} is driven by {self.pipeline.driven_by}; the studio fits skeletons"
            )
        return driver

    def people(self, clip: Path, *, seconds: float = 0.0) -> tuple[Picture, PoseSequence]:
        """A frame of the clip and the poses of all who are in it, from left to right.

        Raises:
            VideoError, FileNotFoundError: the clip cannot be read.
        """
        info = probe(clip)
        number = min(int(seconds * float(info.fps)), info.num_frames - 1)
        frame = next(read_frames(clip, first_frame=number, max_frames=1, info=info))
        with self._turn:
            return frame, self.estimator.image(frame)

    def fit(self, picture: Path, clip: Path, settings: Mapping[str, Any], progress: Progress) -> Fit:
        """Fit the clip's motion to the person of the picture.

        Args:
            settings: settings of `mimic.config.CaseSettings`, by name.
            progress: called with (done, total) frames of the pose estimation.

        Raises:
            StudioError: the clip is too long.
            ValueError, OSError: an input cannot be used; the message says why.
        """
        chosen = self._check(picture, clip, settings)
        with self._turn:
            seen = self._see(picture, chosen)
            moves = self.driver.read(clip, seen, self.pipeline, chosen, progress=progress)
            case_plan(self.pipeline, chosen, moves.num_frames, seen.height, seen.width)
        assert moves.poses is not None
        factor = max(1, -(-_OVERLAY_SIDE // min(seen.height, seen.width)))
        sentences = tuple((moves.verdict or {}).get("sentences", ()))
        return Fit(seen.enlarged(factor), moves.poses, sentences, moves.facts)

    def estimate(self, picture: Path, clip: Path, settings: Mapping[str, Any]) -> Estimate:
        """Time and memory of a result, from two denoising steps of one window."""
        chosen = self._check(picture, clip, settings)
        with self._turn:
            return estimate_case(
                clip.stem,
                self.folder / VIDEO,
                str(picture),
                str(clip),
                pipeline=self.pipeline,
                driver=self.driver,
                reference_pose=None,
                num_frames=_num_frames(clip, chosen),
                settings=chosen,
            )

    def generate(
        self,
        picture: Path,
        clip: Path,
        settings: Mapping[str, Any],
        progress: Listener,
        preview: Callable[[bytes], None] = lambda clip: None,
    ) -> Result:
        """Generate the video into a new folder of its own.

        Args:
            progress: called with (stage, done, total); what it raises stops the work, and the folder of the
                unfinished result is removed.
            preview: called with a small MP4 clip of what is being denoised after each step.

        Raises:
            As `fit`; and what `progress` raises.
        """
        self._check(picture, clip, settings)
        folder = self._new_folder(picture, clip)
        previews = _Previews(preview_path(folder / VIDEO), preview)

        def show(stage: str, done: int, total: int | None) -> None:
            progress(stage, done, total)
            previews.look()

        try:
            own = {
                "ref_image_path": _kept_copy(picture, folder / f"reference{picture.suffix.lower()}"),
                "ref_video_path": _kept_copy(clip, folder / f"driving{clip.suffix.lower()}"),
            }
            with self._turn, listening(show):
                made = generate(
                    own["ref_image_path"],
                    own["ref_video_path"],
                    pipeline=self.pipeline,
                    output=folder / VIDEO,
                    driver=self.driver,
                    **{"side_by_side": True, "preview": True, **settings},
                )
            if made.poses is not None:
                made.poses.save(folder / POSES)
            self._write_recipe(folder, own, settings)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Result(folder)

    def history(self) -> list[Result]:
        """Finished results, the newest first."""
        found = [path.parent for path in self.folder.glob(f"*/{RECIPE}")]
        return [Result(path) for path in sorted(found, key=lambda path: path.name, reverse=True)]

    def _check(self, picture: Path, clip: Path, settings: Mapping[str, Any]) -> CaseSettings:
        chosen = build(CaseSettings, settings, "settings")
        if not picture.is_file():
            raise StudioError("choose a picture of a person first")
        if not clip.is_file():
            raise StudioError("choose a driving clip first")
        if clip.suffix.lower() not in POSE_SUFFIXES:
            info = probe(clip)
            seconds = min(chosen.end or info.num_frames / info.fps, info.num_frames / info.fps) - chosen.start
            if seconds > self._max_seconds:
                raise StudioError(
                    f"the clip has {float(seconds):.0f} s; the studio takes {self._max_seconds:g} s. "
                    "Trim it, or use `mimic animate`"
                )
        return chosen

    def _see(self, picture: Path, settings: CaseSettings) -> Reference:
        return see_reference(picture, self.pipeline, settings, find_pose=self.driver.reference_pose)

    def _new_folder(self, picture: Path, clip: Path) -> Path:
        """``0001_dance_me``: numbered, so that two users never share one."""
        words = shortened(f"{clip.stem}_{picture.stem}", 60)
        words = "result" if fault_of(words) is not None else words
        with self._naming:
            numbers = [int(path.name[:4]) for path in self.folder.iterdir() if path.name[:4].isdecimal()]
            folder = self.folder / f"{max(numbers, default=0) + 1:04d}_{words}"
            folder.mkdir()
        return folder

    def _write_recipe(self, folder: Path, own: Mapping[str, Path], settings: Mapping[str, Any]) -> None:
        case = {
            **{key: str(path.resolve()) for key, path in own.items()},
            "name": Path(VIDEO).stem,
            "side_by_side": True,
            **settings,
        }
        recipe = {"base_model_path": self.model, "device": self._device, "test_case": [case]}
        head = f"# Made by the studio. Makes it again: mimic infer --config {RECIPE} --output-dir again\n"
        with whole_file(folder / RECIPE) as beside:
            text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
            beside.write_text(head + text, encoding="utf-8")


def _num_frames(clip: Path, settings: CaseSettings) -> int:
    """Number of driving frames of a clip, trimmed and strided."""
    if clip.suffix.lower() in POSE_SUFFIXES:
        poses = PoseSequence.load(clip)
        return used_frames(len(poses), poses.fps, settings, name=clip.name).count
    info = probe(clip)
    return used_frames(info.num_frames, info.fps, settings, name=clip.name).count


class _Previews:
    """Reads a result's preview whenever it is new.

    Args:
        source: the preview, replaced after each step and removed in the end.
        tell: called with its content.
    """

    def __init__(self, source: Path, tell: Callable[[bytes], None]) -> None:
        self._source, self._tell, self._time = source, tell, 0

    def look(self) -> None:
        """Read and tell if there is a new preview."""
        try:
            time = self._source.stat().st_mtime_ns
        except FileNotFoundError:
            return
        if time != self._time:
            self._time = time
            self._tell(self._source.read_bytes())


def _kept_copy(source: Path, target: Path) -> Path:
    shutil.copyfile(source, target)
    return target
