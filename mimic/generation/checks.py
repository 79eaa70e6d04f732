"""Checks of all cases, done before the first one is run."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from mimic.config import CaseConfig, InferenceConfig
from mimic.families.base import AnimationPipeline
from mimic.files import local_path, without_empty_folders
from mimic.generation.animate import case_plan
from mimic.generation.background import check_background
from mimic.generation.drivers import Driver
from mimic.generation.drivers.base import POSE_SUFFIXES, UsedFrames, used_frames
from mimic.generation.output import side_by_side_path
from mimic.generation.panels import MOST_PANELS, enlargement
from mimic.generation.preview import preview_path
from mimic.generation.reference import fitted, output_size, read_reference
from mimic.names import same_place
from mimic.results import ResultFiles, check_inputs_stay, read_result
from mimic.video import probe
from mimic.video.formats import PICTURE_FOLDER, check_rate, is_folder_name
from pose import PoseSequence
from pose.video.source import why_no_file

# Upper bound of the bytes that a pixel takes in a video at crf 18.
BYTES_PER_PIXEL = 0.25
# The same for formats with other compression.
MORE_BYTES_PER_PIXEL = {"gif": 1.2, "png": 3.0}
SPARE_BYTES = 20_000_000


class InputError(ValueError):
    """Inputs that cannot be used; the message has one line for each problem."""


@dataclass
class Findings:
    """Collects errors, so that all of them can be reported together."""

    lines: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def about(self, what: str) -> Iterator[None]:
        """Record an error raised in the body, with the prefix `what`, and continue after the body."""
        try:
            yield
        except (ValueError, OSError) as error:
            self.lines.append(f"{what}: {error}" if what else str(error))

    def raise_if_any(self) -> None:
        """Raise `InputError` with all recorded lines, if there are any."""
        if self.lines:
            raise InputError("\n".join(self.lines))


def check_inputs(
    config: InferenceConfig, output_dir: Path, *, say: Callable[[str], None] = lambda line: None
) -> None:
    """Check that all inputs can be read and results can be written; takes milliseconds per case.

    Args:
        config: the cases, with their names.
        output_dir: folder of the results.
        say: called once with each note about a part of a clip, see `UsedFrames.note`.

    Raises:
        InputError: a check fails; the message has one line for each problem (a `ValueError`).
    """
    findings = Findings()
    notes: dict[str, None] = {}
    with findings.about(""):
        _check_writable(output_dir)
    with findings.about(""):
        _check_names_differ(config, output_dir)
    with findings.about("densepose_model"):
        model = None if config.densepose_model is None else local_path(config.densepose_model)
        if model is not None and not model.is_file():
            what = f"{model} is {why_no_file(model)}" if model.exists() else f"there is no file {model}"
            raise FileNotFoundError(f"{what}; expected an ONNX or TorchScript file")
    for name, title, case in zip(config.case_names(), _titles(config), config.test_case):
        with findings.about(title):
            files = result_files(output_dir, name, case)
            inputs = [
                source for each in config.test_case for source in (each.ref_image_path, each.ref_video_path)
            ]
            written = [*files, *([preview_path(files.video)] if case.preview else [])]
            check_inputs_stay(written, inputs)
            read_result(files)
        with findings.about(title):
            if case.preview_decoder is not None and not local_path(case.preview_decoder).exists():
                raise FileNotFoundError(f"there is no preview_decoder {case.preview_decoder}")
        with findings.about(title):
            read_reference(case.ref_image_path)
        with findings.about(title):
            used, fps = used_of_clip(case)
            notes.update({used.note: None} if used.note is not None else {})
            check_rate(files.video, fps / used.stride if case.fps is None else case.fps)
    findings.raise_if_any()
    for note in notes:
        say(note)


def _titles(config: InferenceConfig) -> list[str]:
    """What a problem of each case begins with: the case's name, where there are several."""
    names = config.case_names()
    return names if len(names) > 1 else [""]


def _check_names_differ(config: InferenceConfig, output_dir: Path) -> None:
    """Check that no two cases write to the same file."""
    writer: dict[str, str] = {}
    for name, case in zip(config.case_names(), config.test_case):
        files = result_files(output_dir, name, case)
        for path in (*files, *([preview_path(files.video)] if case.preview else [])):
            other = writer.setdefault(same_place(path.name), name)
            if other != name:
                raise InputError(f"{name} and {other} would both write {path}; give one of them another name")


def result_files(output_dir: Path, name: str, case: CaseConfig) -> ResultFiles:
    """Return the files that a case writes."""
    video = output_dir / f"{name}.{case.format}"
    if case.format == PICTURE_FOLDER:
        folder = output_dir / name
        video = folder if is_folder_name(folder) else output_dir / f"{name}_frames"
    return ResultFiles(video, side_by_side_path(video) if case.side_by_side else None)


def check_driver(config: InferenceConfig, driver: Driver) -> None:
    """Check that each picture can be animated and each clip can drive, before the pipeline is loaded.

    Takes about a second per case.

    Raises:
        InputError: a picture or clip cannot be used; the message has one line for each (a `ValueError`).
    """
    findings = Findings()
    for title, case in zip(_titles(config), config.test_case):
        with findings.about(title):
            check_background(case, driver)
        with findings.about(title):
            label, picture = read_reference(case.ref_image_path)
            driver.check_reference(picture, case, name=label)
        with findings.about(title):
            driver.check_driving(local_path(case.ref_video_path), case)
    findings.raise_if_any()


def check_with_model(
    config: InferenceConfig, pipeline: AnimationPipeline[Any, Any], driver: Driver, output_dir: Path
) -> list[PoseSequence | None]:
    """Check sizes, windows and disk space, and that the person is in the part of the picture that is shown.

    Returns:
        poses of the references, one for each case; None if the model is not driven by skeletons.

    Raises:
        InputError: a check fails; the message has one line for each problem (a `ValueError`).
    """
    findings = Findings()
    num_bytes = SPARE_BYTES
    poses: list[PoseSequence | None] = []
    for title, case in zip(_titles(config), config.test_case):
        with findings.about(title):
            label, picture = read_reference(case.ref_image_path)
            height, width = output_size(picture, pipeline, case)
            num_frames = count_frames(case)
            num_copies = 1 + (MOST_PANELS * enlargement(height) ** 2 if case.side_by_side else 0)
            bytes_per_pixel = MORE_BYTES_PER_PIXEL.get(case.format, BYTES_PER_PIXEL)
            num_bytes += int(num_frames * height * width * bytes_per_pixel * num_copies)
            shown = fitted(picture, height, width, pipeline, case)
            if shown is picture:
                label = f"{label}, cropped to its centre (fit: pad keeps all of it)"
            poses.append(driver.reference_pose(shown, height, width, case, name=label))
            pipeline.check_steps(case_plan(pipeline, case, num_frames, height, width))
    with findings.about(""):
        check_space(output_dir, num_bytes)
    findings.raise_if_any()
    return poses


def check_space(folder: Path, num_bytes: int) -> None:
    """Raise `InputError` if less than ``num_bytes`` are free on the folder's disk."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < num_bytes:
        raise InputError(
            f"{folder} has {free / 1e6:.0f} MB free, and the results may need {num_bytes / 1e6:.0f} MB; free "
            "some space, or choose another place"
        )


def count_frames(case: CaseConfig) -> int:
    """Return the number of driving frames of a case; raises as `used_of_clip`."""
    return used_of_clip(case)[0].count


def used_of_clip(case: CaseConfig) -> tuple[UsedFrames, float | Fraction]:
    """Return which frames of its clip a case uses, and the clip's frame rate.

    Raises:
        FileNotFoundError, VideoError, PoseError: the clip is missing or cannot be read.
    """
    path = local_path(case.ref_video_path)
    if path.suffix.lower() in POSE_SUFFIXES:
        if not path.is_file():
            what = f"{path} is {why_no_file(path)}" if path.exists() else f"there is no pose file {path}"
            raise FileNotFoundError(what)
        poses = PoseSequence.load(path)
        return used_frames(len(poses), poses.fps, case, name=case.ref_video_path), poses.fps
    clip = probe(path)
    return used_frames(clip.num_frames, clip.fps, case, name=case.ref_video_path), clip.fps


def _check_writable(folder: Path) -> None:
    try:
        with without_empty_folders(folder):  # created again for the first result
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot write to {folder}: {reason}; choose another place") from error
