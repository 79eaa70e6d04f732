"""What must be true of all cases before the first of them is run."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimic.config import CaseConfig, CaseSettings, InferenceConfig
from mimic.files import local_path
from mimic.generation.body_parts import check_is_densepose, clip_alone
from mimic.generation.output import enlargement, side_by_side_path
from mimic.generation.poses import num_driving_frames
from mimic.generation.reference import find_pose, fitted, output_size, read_reference
from mimic.generation.settings import family_settings
from mimic.sampling.windows import reference_windows
from mimic.video import probe, read_frames
from pose import PoseSequence
from pose.estimators import Estimator

# Generous for H.264 at crf 18: what a frame's pixel takes in the file.
BYTES_PER_PIXEL = 0.25
SPARE_BYTES = 20_000_000


class InputError(ValueError):
    """What the user gave cannot be worked with; one line for each thing found."""


@dataclass
class Findings:
    """Collects what is wrong, so that it can be told all at once."""

    lines: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def about(self, what: str) -> Iterator[None]:
        """Note an error of the body and go on after it."""
        try:
            yield
        except (ValueError, OSError) as error:
            self.lines.append(f"{what}: {error}" if what else str(error))

    def raise_if_any(self) -> None:
        """Raises `InputError` with all lines."""
        if self.lines:
            raise InputError("\n".join(self.lines))


def check_inputs(config: InferenceConfig, output_dir: Path) -> None:
    """All inputs are there and can be read, and results can be written; costs milliseconds a case.

    Raises:
        InputError: a line for each input that is not.
    """
    findings = Findings()
    with findings.about(""):
        _check_writable(output_dir)
    with findings.about(""):
        _check_overwriting(config, output_dir)
    for name, case in zip(config.case_names(), config.test_case):
        with findings.about(name):
            read_reference(case.ref_image_path)
        with findings.about(name):
            _num_frames(case)
    findings.raise_if_any()


def _check_overwriting(config: InferenceConfig, output_dir: Path) -> None:
    """No result replaces another case's result or anything that is read."""
    writer: dict[Path, str] = {}
    for name, case in zip(config.case_names(), config.test_case):
        video = output_dir / f"{name}.mp4"
        results = [
            video,
            video.with_suffix(".json"),
            *([side_by_side_path(video)] if case.side_by_side else []),
        ]
        for result in (path.resolve() for path in results):
            if result in writer:
                raise InputError(
                    f"{name} and {writer[result]} would both write {result}; give one another name"
                )
            writer[result] = name
    for case in config.test_case:
        for source in (case.ref_image_path, case.ref_video_path):
            if Path(source).resolve() in writer:
                raise InputError(
                    f"{source} would be replaced by a result of that name; choose another output folder"
                )


def check_people(config: InferenceConfig, estimator: Estimator) -> None:
    """Somebody is in each reference picture; costs a second a case, where loading a model may cost a minute.

    Raises:
        InputError: a line for each picture without anybody.
    """
    findings = Findings()
    for name, case in zip(config.case_names(), config.test_case):
        with findings.about(name):
            label, picture = read_reference(case.ref_image_path)
            find_pose(picture, picture.shape[0], picture.shape[1], estimator, case, name=label)
    findings.raise_if_any()


def check_body_parts(config: InferenceConfig, *, has_model: bool) -> None:
    """Driving clips are DensePose videos, unless a model makes them of ordinary ones.

    Raises:
        InputError: a line for each clip that is not.
    """
    findings = Findings()
    for name, case in zip(config.case_names(), config.test_case):
        with findings.about(name):
            path = clip_alone(local_path(case.ref_video_path))
            if not has_model:
                check_is_densepose(next(iter(read_frames(path, max_frames=1))), case.ref_video_path)
    findings.raise_if_any()


def check_with_model(
    config: InferenceConfig, pipeline: Any, estimator: Estimator | None, output_dir: Path
) -> list[PoseSequence | None]:
    """Sizes, windows and disk space suit, and the person is in the part of the picture that the result shows.

    Returns:
        the references' poses, one for each case; None where there is no estimator.

    Raises:
        InputError: a line for each case and thing that does not suit.
    """
    findings = Findings()
    num_bytes = SPARE_BYTES
    poses: list[PoseSequence | None] = []
    for name, case in zip(config.case_names(), config.test_case):
        with findings.about(name):
            label, picture = read_reference(case.ref_image_path)
            height, width = output_size(picture, pipeline, case)
            num_copies = 1 + (3 * enlargement(height) ** 2 if case.side_by_side else 0)
            num_bytes += int(_num_frames(case) * height * width * BYTES_PER_PIXEL * num_copies)
            shown = fitted(picture, height, width, pipeline, case)
            if shown is picture:
                label = f"{label}, its middle (fit: pad takes all of it)"
            if estimator is None:
                poses.append(None)
            else:
                poses.append(find_pose(shown, height, width, estimator, case, name=label))
        with findings.about(name):
            check_windows(pipeline, case)
            family_settings(pipeline, case)
    with findings.about(""):
        check_space(output_dir, num_bytes)
    findings.raise_if_any()
    return poses


def check_windows(pipeline: Any, settings: CaseSettings) -> None:
    """Window and overlap suit each other, the model's own filled in.

    Raises:
        ValueError: the overlap is not smaller than the window.
    """
    tile_size = pipeline.setting("tile_size", settings.tile_size)
    reference_windows(tile_size, tile_size, pipeline.setting("tile_overlap", settings.tile_overlap))


def check_space(folder: Path, num_bytes: int) -> None:
    """Raises `InputError` where less than ``num_bytes`` are free on the folder's disk."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < num_bytes:
        raise InputError(
            f"{folder} has {free / 1e6:.0f} MB free, and the results may need {num_bytes / 1e6:.0f} MB; free "
            "some space, or choose another --output-dir"
        )


def _num_frames(case: CaseConfig) -> int:
    path = local_path(case.ref_video_path)
    if path.suffix.lower() == ".npz":
        if not path.is_file():
            raise FileNotFoundError(f"there is no file of poses {path}")
        return len(PoseSequence.load(path))
    return num_driving_frames(probe(path), case)


def _check_writable(folder: Path) -> None:
    was_there = folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        if not was_there:
            folder.rmdir()  # the first result makes it: a run that is refused leaves nothing behind
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot write to {folder}: {reason}; choose another --output-dir") from error
