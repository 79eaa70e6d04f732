"""The two steps of work on a video: survey it for cuts, then estimate the poses of its parts.

Each step ends with a note on disk; `mimic.data.prepare.workers` runs the steps in several processes.
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
"""Interval in seconds at which whole frames are searched for other people."""
MIN_LOOKS = 3
"""Minimum number of such searches in a part."""

_READING_ERRORS = (VideoError, av.error.FFmpegError)
"""Errors raised for broken files, by `mimic.video` or directly by PyAV."""

Found = tuple[PartNote, list[tuple[str, PoseSequence]]]
"""Note of a part, and the poses to save, each with the name of its clip."""


@dataclass(frozen=True)
class Job:
    """Parameters shared by all work on one prepared folder, sent to every process."""

    videos: Path
    data: Path
    settings: PrepareSettings
    estimator: str
    """Name of the estimator, never `auto`."""
    device: str


class Worker:
    """Runs the steps, one at a time, on one thread.

    Args:
        job: parameters of the work.
        tick: called with the number of frames processed since the last call; may raise to stop the work.
    """

    def __init__(self, job: Job, tick: Tick) -> None:
        self.job = job
        self.notes = Notes(job.data)
        self._tick = tick
        self._stopped_by: Exception | None = None
        self._estimator: Estimator | None = None

    def survey(self, source: Source) -> None:
        """Search a video for cuts and write a note with the parts to process.

        If this fails, the video is rejected; see `_reject`.
        """
        path = self.job.videos / source.video
        try:
            survey = self._survey(source, path)
        except Exception as error:
            row = self._reject(error, source, path, None, None, otherwise=UNREADABLE)
            survey = Survey(source.video, source.num_bytes, source.changed_ns, rejected=(row,))
        self.notes.write_survey(source, survey)

    def poses(self, source: Source, parts: list[tuple[int, int]]) -> None:
        """Estimate and save the poses of parts of one video, in ascending order, and write a note of each.

        If this fails, the part is rejected; see `_reject`.
        """
        self._loaded()  # failing to load the estimator must not reject the video
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

    def give_up(self, source: Source, parts: list[tuple[int, int]] | None, detail: str) -> None:
        """Reject a video, or those of the given parts that have no note, with the reason `FAILED`."""
        if parts is None:
            row = rejected_row(source, None, None, FAILED, detail)
            survey = Survey(source.video, source.num_bytes, source.changed_ns, rejected=(row,))
            self.notes.write_survey(source, survey)
            return
        known = self.notes.survey(source)
        for part in parts:
            if self.notes.part(source, part[0]) is None:
                row = rejected_row(source, part, None if known is None else known.fps, FAILED, detail)
                self.notes.write_part(source, part[0], PartNote(rejected=[row]))

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
        """Return the rejected row for an error in the work on one video.

        The reason is `UNREADABLE` for errors of the file's content, `FAILED` for errors of the system (the
        file is missing, a disk or a device fails), and `otherwise` for all others.

        Raises:
            the error itself if the video did not cause it: out of memory, or `tick` stopped the work.
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
        """Yield the result of each of the given parts of a video, decoding the video only once."""
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
        """Return the cuts, the number of readable frames, and the error that ended reading, if any."""
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
        """Yield the frames unchanged, and search some of them for all persons."""
        num_frames = part[1] - part[0]
        every = max(1, min(round(fps / LOOKS_A_SECOND), num_frames // MIN_LOOKS))
        for number, frame in enumerate(frames):
            if number % every == every // 2:
                looks[number] = self._loaded().image(frame)
            yield frame

    def _clips(
        self, source: Source, part: tuple[int, int], poses: PoseSequence, looks: dict[int, PoseSequence]
    ) -> Found:
        """Return the clips of a part with their poses, and the rejected ranges."""
        settings, fps, note = self.job.settings, poses.fps, PartNote()
        sequences: list[tuple[str, PoseSequence]] = []
        seen = people.is_seen(poses)

        def reject(stretch: tuple[int, int], reason: str, detail: str) -> None:
            frames = (part[0] + stretch[0], part[0] + stretch[1])
            note.rejected.append(rejected_row(source, frames, fps, reason, detail))

        found = people.stretches(seen, round(settings.max_gap_seconds * fps))
        for first, end in people.between(found, len(poses)):
            reject((first, end), NOBODY, "nobody is found")
        for first, end in found:
            own, measured = poses[first:end], people.confidence(poses[first:end])
            if end - first < settings.min_frames:
                reject((first, end), TOO_SHORT, f"a person is found for {_too_short(end - first, settings)}")
                continue
            if measured.coverage < settings.min_coverage:
                least = f"min_coverage is {settings.min_coverage}"
                reject((first, end), NOBODY, f"a person is in {measured.coverage:.2f} of the frames; {least}")
                continue
            looked = [number for number in looks if first <= number < end and seen[number]]
            others = [n for n in looked if people.has_others(poses[n], looks[n], settings.other_size)]
            if len(others) > settings.max_others * len(looked):
                reject((first, end), SEVERAL, f"{len(others)} of {len(looked)} checked frames show others")
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
            logging.getLogger("pose").setLevel(logging.WARNING)  # the main process reports it once
            self._estimator = load_estimator(
                job.estimator, weights=job.settings.weights, device=job.device, num_threads=1
            )
        return self._estimator


def rejected_row(
    source: Source, frames: tuple[int, int] | None, fps: float | None, reason: str, detail: str
) -> Row:
    """Make a row of the list of rejected; `frames` is the range (first, end), None if unknown."""
    return {
        "video": source.video,
        "frames": list(frames) if frames is not None else None,
        "fps": fps,
        "reason": reason,
        "detail": detail,
    }


def divided(first: int, end: int, longest: int) -> list[tuple[int, int]]:
    """Divide the frame range [first, end) into parts of nearly equal length, none longer than `longest`."""
    num_parts = -(-(end - first) // max(1, longest))
    edges = [first + (end - first) * i // num_parts for i in range(num_parts + 1)]
    return list(pairwise(edges))


def _check_regular(path: Path) -> None:
    """Check that a path is a regular file; opening a pipe would block forever.

    Raises:
        FileNotFoundError: the file does not exist.
        VideoError: it is not a regular file.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise VideoError(f"{path} is {kind}; expected a video file")


def _too_short(num_frames: int, settings: PrepareSettings) -> str:
    frames = "1 frame" if num_frames == 1 else f"{num_frames} frames"
    return f"{frames}; min_frames is {settings.min_frames}"


def _told(error: Exception, path: Path, source: Source) -> str:
    """Format an error with the video's relative path instead of its full path."""
    return " ".join(str(error).split()).replace(str(path), source.video)
