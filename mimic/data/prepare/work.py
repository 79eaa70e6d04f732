"""What is done with one video: it is looked through for cuts, then the poses of its parts are found.

Each step ends with a note on disk; `mimic.data.prepare.workers` runs the steps in many processes.
"""

from __future__ import annotations

import logging
import math
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av.error
import numpy as np
from numpy.typing import NDArray

from mimic.data.prepare import people
from mimic.data.prepare.cuts import find_cuts
from mimic.data.prepare.notes import FAILED, Notes, PartNote, Row, Survey
from mimic.data.prepare.settings import ONLY_ONE, PrepareSettings
from mimic.data.prepare.sources import Source, poses_file
from mimic.video import VideoError, VideoInfo, probe, read_frames
from pose import PoseError, PoseSequence, load_estimator
from pose.estimators import Estimator

Frames = Iterator[NDArray[np.uint8]]
Tick = Callable[[int], None]

UNREADABLE, TOO_SHORT, TOO_SMALL = "unreadable", "too short", "too small"
NOBODY, SEVERAL = "nobody", "several people"
REASONS = (UNREADABLE, TOO_SHORT, TOO_SMALL, NOBODY, SEVERAL, FAILED)

LOOKS_A_SECOND = 1.0
"""How often the whole picture is searched for other people."""
MIN_LOOKS = 3
"""And at least so often in a part."""

_READING_ERRORS = (VideoError, av.error.FFmpegError)
"""Raised for a broken file: by `mimic.video`, or by PyAV where nothing of ours translates the error."""

Found = tuple[PartNote, list[tuple[str, PoseSequence]]]
"""The note of a part, and its poses to be saved, each with the name of its clip."""


@dataclass(frozen=True)
class Job:
    """What all work on one prepared folder has in common; goes to every process."""

    videos: Path
    data: Path
    settings: PrepareSettings
    estimator: str
    """Its name, never `auto`."""
    device: str


class Worker:
    """Does the steps, one at a time, on one thread.

    Args:
        tick: called with the number of frames done since the last call; may raise to stop the work.
    """

    def __init__(self, job: Job, tick: Tick) -> None:
        self.job = job
        self.notes = Notes(job.data)
        self._tick = tick
        self._stopped_by: Exception | None = None
        self._estimator: Estimator | None = None

    def survey(self, source: Source) -> None:
        """Look through a video and note which parts of it are to be worked on.

        Whatever fails is the rejection of this video; see `_reject`.
        """
        path = self.job.videos / source.video
        try:
            survey = self._survey(source, path)
        except Exception as error:
            row = self._reject(error, source, path, None, None, otherwise=UNREADABLE)
            survey = Survey(source.video, source.num_bytes, source.changed_ns, rejected=(row,))
        self.notes.write_survey(source, survey)

    def poses(self, source: Source, parts: list[tuple[int, int]]) -> None:
        """Find and save the poses of some parts of one video, ascending, and note what each gave.

        Whatever fails is the rejection of the part it fails at; see `_reject`.
        """
        self._loaded()  # an estimator that cannot be loaded is no fault of the video's
        path = self.job.videos / source.video
        survey = self.notes.survey(source)
        found = self._parts(source, path, parts)
        for number, part in enumerate(parts):
            try:
                note, sequences = next(found)
            except Exception as error:
                fps = survey.fps if survey is not None else None
                row = self._reject(error, source, path, part, fps, otherwise=FAILED)
                note, sequences = PartNote(rejected=[row]), []
                found = self._parts(source, path, parts[number + 1 :])
            for name, sequence in sequences:
                sequence.save(self.job.data / poses_file(name))
            self.notes.write_part(source, part[0], note)

    def _reject(
        self,
        error: Exception,
        source: Source,
        path: Path,
        frames: tuple[int, int] | None,
        fps: float | None,
        *,
        otherwise: str,
    ) -> Row:
        """The rejected row for an error in the work on one video.

        The reason is `UNREADABLE` for errors of the file's content, `FAILED` for those of the system (the
        file is gone, a disk or a device fails), `otherwise` for all others.

        Raises:
            the error itself, where it is not the video's: memory has run out, or `tick` has stopped the work.
        """
        is_content = isinstance(error, _READING_ERRORS)
        if error is self._stopped_by or (isinstance(error, MemoryError) and not is_content):
            raise error
        text = _told(error, path, source)
        if is_content:
            return rejected_row(source, frames, fps, UNREADABLE, text)
        reason = FAILED if isinstance(error, OSError) else otherwise
        return rejected_row(source, frames, fps, reason, f"{type(error).__name__}: {text}")

    def _parts(self, source: Source, path: Path, parts: list[tuple[int, int]]) -> Iterator[Found]:
        """What each of some parts of a video gives; its frames are decoded once for all of them."""
        if not parts:
            return
        _check_regular(path)
        info = probe(path)
        position = parts[0][0]
        frames = read_frames(path, first_frame=position, info=info)
        for first, end in parts:
            for _ in islice(frames, first - position):
                pass
            yield self._part(source, info, islice(frames, end - first), (first, end))
            position = end

    def _count(self, num_frames: int) -> None:
        try:
            self._tick(num_frames)
        except Exception as error:
            self._stopped_by = error
            raise

    def _survey(self, source: Source, path: Path) -> Survey:
        facts: dict[str, Any] = {
            "video": source.video,
            "num_bytes": source.num_bytes,
            "changed_ns": source.changed_ns,
        }
        settings = self.job.settings
        _check_regular(path)
        info = probe(path)
        fps = float(info.fps)
        facts |= {"fps": fps, "width": info.width, "height": info.height}

        def whole(reason: str, detail: str) -> Survey:
            row = rejected_row(source, (0, info.num_frames), fps, reason, detail)
            return Survey(**facts, rejected=(row,))

        if min(info.height, info.width) < settings.min_size:
            return whole(TOO_SMALL, f"{info.width}x{info.height}; min_size is {settings.min_size}")
        if info.num_frames < settings.min_frames:
            return whole(TOO_SHORT, _too_short(info.num_frames, settings))
        cuts, num_frames, damage = self._cuts(path, info)
        rejected = []
        if damage is not None:
            told = _told(damage, path, source)
            rest = (num_frames, max(info.num_frames, num_frames + 1))
            rejected.append(rejected_row(source, rest, fps, UNREADABLE, told))
        parts: list[tuple[int, int]] = []
        edges = [0, *cuts, num_frames]
        for first, end in pairwise(edges):
            if 0 < end - first < settings.min_frames:
                detail = _too_short(end - first, settings)
                rejected.append(rejected_row(source, (first, end), fps, TOO_SHORT, detail))
            elif end > first:
                parts.extend(divided(first, end, math.floor(settings.max_seconds * fps)))
        return Survey(**facts, parts=tuple(parts), rejected=tuple(rejected))

    def _cuts(self, path: Path, info: VideoInfo) -> tuple[list[int], int, Exception | None]:
        """Cuts, the number of frames that can be read, and what stopped the reading, if anything did."""
        num_frames = 0
        shape = (info.height, info.width, 3)

        def counted() -> Frames:
            nonlocal num_frames
            for frame in read_frames(path, info=info):
                if frame.shape != shape:
                    size = f"{frame.shape[1]}x{frame.shape[0]}"
                    raise VideoError(f"{path} changes its size to {size} at frame {num_frames}")
                num_frames += 1
                self._count(1)
                yield frame

        cuts: list[int] = []
        try:
            cuts.extend(find_cuts(counted()))
        except _READING_ERRORS as error:
            return [cut for cut in cuts if cut < num_frames], num_frames, error
        return cuts, num_frames, None

    def _part(self, source: Source, info: VideoInfo, frames: Frames, part: tuple[int, int]) -> Found:
        fps, settings = float(info.fps), self.job.settings
        looks: dict[int, PoseSequence] = {}
        if settings.person == ONLY_ONE:
            frames = self._with_looks(frames, part, fps, looks)
        done = 0

        def progress(num_done: int, _: int | None) -> None:
            nonlocal done
            self._count(num_done - done)
            done = num_done

        try:
            poses = self._loaded().frames(frames, fps=fps, person=settings.followed, progress=progress)
        except PoseError as error:
            return PartNote(rejected=[rejected_row(source, part, fps, NOBODY, str(error))]), []
        return self._clips(source, part, poses, looks)

    def _with_looks(
        self, frames: Frames, part: tuple[int, int], fps: float, looks: dict[int, PoseSequence]
    ) -> Frames:
        """Hand the frames on; in some of them everybody is searched for."""
        num_frames = part[1] - part[0]
        every = max(1, min(round(fps / LOOKS_A_SECOND), num_frames // MIN_LOOKS))
        for number, frame in enumerate(frames):
            if number % every == every // 2:
                looks[number] = self._loaded().image(frame)
            yield frame

    def _clips(
        self, source: Source, part: tuple[int, int], poses: PoseSequence, looks: dict[int, PoseSequence]
    ) -> Found:
        """The clips that one part gives with their poses, and what of it cannot serve."""
        settings, fps, note = self.job.settings, poses.fps, PartNote()
        sequences: list[tuple[str, PoseSequence]] = []
        seen = people.is_seen(poses)

        def reject(stretch: tuple[int, int], reason: str, detail: str) -> None:
            frames = (part[0] + stretch[0], part[0] + stretch[1])
            note.rejected.append(rejected_row(source, frames, fps, reason, detail))

        found = people.stretches(seen, round(settings.max_gap_seconds * fps))
        for first, end in people.between(found, len(poses)):
            reject((first, end), NOBODY, "nobody is there")
        for first, end in found:
            own, measured = poses[first:end], people.confidence(poses[first:end])
            if end - first < settings.min_frames:
                reject((first, end), TOO_SHORT, f"somebody is there for {_too_short(end - first, settings)}")
                continue
            if measured.coverage < settings.min_coverage:
                least = f"min_coverage is {settings.min_coverage}"
                reject((first, end), NOBODY, f"somebody is in {measured.coverage:.2f} of the frames; {least}")
                continue
            looked = [number for number in looks if first <= number < end and seen[number]]
            others = [n for n in looked if people.has_others(poses[n], looks[n], settings.other_size)]
            if len(others) > settings.max_others * len(looked):
                reject((first, end), SEVERAL, f"in {len(others)} of {len(looked)} looks there are others")
                continue
            row, sequence = self._clip(source, part[0] + first, own, measured)
            note.clips.append(row)
            sequences.append((row["clip"], sequence))
        return note, sequences

    def _clip(
        self, source: Source, first_frame: int, poses: PoseSequence, measured: people.Confidence
    ) -> tuple[Row, PoseSequence]:
        name = source.clip_name(first_frame)
        origin = {
            "estimator": self.job.estimator,
            "person": self.job.settings.person,
            "source": source.video,
            "first_frame": first_frame,
        }
        row = {
            "clip": name,
            "video": source.video,
            "first_frame": first_frame,
            "num_frames": len(poses),
            "fps": poses.fps,
            "width": poses.width,
            "height": poses.height,
            "poses": poses_file(name),
            "person_coverage": round(measured.coverage, 4),
            "body_confidence": round(measured.body, 4),
            "hand_confidence": round(measured.hands, 4),
        }
        return row, replace(poses, metadata=origin)

    def _loaded(self) -> Estimator:
        if self._estimator is None:
            job = self.job
            logging.getLogger("pose").setLevel(logging.WARNING)  # said once, by the process that leads
            self._estimator = load_estimator(
                job.estimator, weights=job.settings.weights, device=job.device, num_threads=1
            )
        return self._estimator


def rejected_row(
    source: Source, frames: tuple[int, int] | None, fps: float | None, reason: str, detail: str
) -> Row:
    """A row of the list of rejected; `frames` are the first and the one after the last, None if unknown."""
    return {
        "video": source.video,
        "frames": list(frames) if frames is not None else None,
        "fps": fps,
        "reason": reason,
        "detail": detail,
    }


def divided(first: int, end: int, longest: int) -> list[tuple[int, int]]:
    """A stretch as parts of nearly equal length, none longer than `longest`."""
    num_parts = -(-(end - first) // max(1, longest))
    edges = [first + (end - first) * i // num_parts for i in range(num_parts + 1)]
    return list(pairwise(edges))


def _check_regular(path: Path) -> None:
    """Refuse what cannot be read from its start to its end: opening a pipe would wait for ever.

    Raises:
        FileNotFoundError: the file is gone.
        VideoError: it is no regular file.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise VideoError(f"{path} is {kind}; expected a video file")


def _too_short(num_frames: int, settings: PrepareSettings) -> str:
    frames = "1 frame" if num_frames == 1 else f"{num_frames} frames"
    return f"{frames}; min_frames is {settings.min_frames}"


def _told(error: Exception, path: Path, source: Source) -> str:
    """What is wrong, with the name that the video has in the list, wherever the folder lies."""
    return " ".join(str(error).split()).replace(str(path), source.video)
