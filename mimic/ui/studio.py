"""What the studio does with a picture and a clip: find people, fit, generate, keep. It knows of no page.

Everything calls the functions that the command line calls. Results lie in one folder, each in a folder of its
own with its inputs and the YAML that makes it again, so that a new server finds them.
"""

from __future__ import annotations

import functools
import logging
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from mimic.config import CaseSettings
from mimic.config.inference import merged
from mimic.config.loading import build
from mimic.files import whole_file
from mimic.generation import generate
from mimic.generation.animate import case_plan
from mimic.generation.drivers.base import POSE_SUFFIXES, used_frames
from mimic.generation.estimate import Estimate, estimate_case
from mimic.generation.memory_mode import MemoryMode, retried_with_less_memory
from mimic.generation.preview import preview_path
from mimic.generation.reference import see_reference
from mimic.names import fault_of, shortened
from mimic.progress import Listener, Progress, listening
from mimic.ui.errors import CancelledError, StudioError
from mimic.ui.model import StudioModel
from mimic.ui.results import POSES, RECIPE, VIDEO, Result, finished_results, new_folder
from mimic.video import probe, read_frames
from pose import PoseSequence
from pose.draw import overlay_frame

__all__ = ["CancelledError", "Fit", "Picture", "Result", "Studio", "StudioError"]

log = logging.getLogger("mimic")

MAX_SECONDS = 60.0
"""Length of a clip that the studio takes, after trimming."""

_OVERLAY_SIDE = 512
Picture = NDArray[np.uint8]


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
            model: as `mimic animate --model` takes it.
            device: as `device` of a YAML.
            max_seconds: length of a clip or of poses, after trimming, above which it is refused.

        Raises:
            ConfigError: the model is a YAML that is missing or invalid.
        """
        self.folder, self.model = folder, StudioModel(model, device)
        self._max_seconds = max_seconds
        self._memory = MemoryMode(self.model.config.memory_mode)
        self._turn = threading.Lock()
        """Held by who computes with the model."""
        self._looking = threading.Lock()
        """Held by who looks at people: a fit does not wait for a video that is being made."""
        self._naming = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def first_frame(self, clip: Path, *, seconds: float = 0.0) -> Picture:
        """The frame of the clip at a time, or its last one.

        Raises:
            VideoError, FileNotFoundError: the clip cannot be read.
        """
        info = probe(clip)
        number = min(int(seconds * float(info.fps)), info.num_frames - 1)
        return next(read_frames(clip, first_frame=number, max_frames=1, info=info))

    def people(self, clip: Path, *, seconds: float = 0.0) -> tuple[Picture, PoseSequence]:
        """A frame of the clip and the poses of all who are in it, from left to right.

        Raises:
            VideoError, FileNotFoundError: the clip cannot be read.
        """
        frame = self.first_frame(clip, seconds=seconds)
        with self._looking:
            return frame, self.model.looking.tools.estimator().image(frame)

    def fit(self, picture: Path, clip: Path, settings: Mapping[str, Any], progress: Progress) -> Fit:
        """Fit the clip's motion to the person of the picture.

        Args:
            settings: settings of `mimic.config.CaseSettings`, by name.
            progress: called with (done, total) frames of the pose estimation; not at all if the poses of the
                clip are known from before.

        Raises:
            StudioError: the clip is too long, or the model is not driven by skeletons.
            ValueError, OSError: an input cannot be used; the message says why.
        """
        chosen = self._check(picture, clip, settings)
        with self._looking:
            pipeline, driver = self.model.pipeline, self.model.looking
            seen = see_reference(picture, pipeline, chosen, find_pose=driver.reference_pose)
            moves = driver.read(clip, seen, pipeline, chosen, progress=progress)
            case_plan(pipeline, chosen, moves.num_frames, seen.height, seen.width)
        assert moves.poses is not None
        factor = max(1, -(-_OVERLAY_SIDE // min(seen.height, seen.width)))
        notes = () if moves.part_note is None else (moves.part_note,)
        sentences = (*notes, *(moves.verdict or {}).get("sentences", ()))
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
                pipeline=self.model.pipeline,
                driver=self.model.driver,
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
        settings = {**self._complete(settings), "side_by_side": True}
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
                make = functools.partial(
                    generate,
                    own["ref_image_path"],
                    own["ref_video_path"],
                    pipeline=self.model.pipeline,
                    output=folder / VIDEO,
                    driver=self.model.driver,
                    memory=self._memory,
                    about={"model": self.model.description},
                    **{**settings, "preview": True},
                )
                made = retried_with_less_memory(make, self._memory, None, log.info)
            if made.poses is not None:
                made.poses.save(folder / POSES)
            self._write_recipe(folder, own, settings)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Result(folder)

    def history(self) -> list[Result]:
        """Finished results, the newest first."""
        return finished_results(self.folder)

    def _complete(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings, with those that the model's YAML gives where they say nothing."""
        return merged(self.model.settings, settings)

    def _check(self, picture: Path, clip: Path, settings: Mapping[str, Any]) -> CaseSettings:
        chosen = build(CaseSettings, self._complete(settings), "settings")
        if not picture.is_file():
            raise StudioError("choose a picture of a person first")
        if not clip.is_file():
            raise StudioError("choose a driving clip first")
        length = _length_s(clip)
        seconds = min(chosen.end or length, length) - chosen.start
        if seconds > self._max_seconds:
            raise StudioError(
                f"the clip has {seconds:.0f} s; the studio takes {self._max_seconds:g} s. "
                "Trim it, or use `mimic animate`"
            )
        return chosen

    def _new_folder(self, picture: Path, clip: Path) -> Path:
        words = shortened(f"{clip.stem}_{picture.stem}", 60)
        with self._naming:
            return new_folder(self.folder, "result" if fault_of(words) is not None else words)

    def _write_recipe(self, folder: Path, own: Mapping[str, Path], settings: Mapping[str, Any]) -> None:
        paths = {key: str(path.resolve()) for key, path in own.items()}
        case = {**paths, "name": Path(VIDEO).stem, **settings}
        recipe = {**self.model.run, "test_case": [case]}
        head = f"# Made by the studio. Makes it again: mimic infer --config {RECIPE} --output-dir again\n"
        with whole_file(folder / RECIPE) as beside:
            text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
            beside.write_text(head + text, encoding="utf-8")


def _length_s(clip: Path) -> float:
    """Length of a clip or of poses, in seconds."""
    if clip.suffix.lower() in POSE_SUFFIXES:
        poses = PoseSequence.load(clip)
        return len(poses) / poses.fps
    info = probe(clip)
    return float(info.num_frames / info.fps)


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
