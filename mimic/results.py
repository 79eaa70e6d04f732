"""What becomes of results that are there already, and of inputs that would be overwritten: one rule for all.

A result is a video, the JSON beside it, and further files named in the JSON. One that was made of the same
things (its identity) is kept; another is made anew and the former is set aside as ``<case>.1.mp4``; a file
that is not ours is never replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mimic.files import local_path, remove_begun, replace, write_json
from mimic.video import VideoError, probe
from mimic.video.formats import is_folder_name, sibling
from mimic.weights.sources import sha256

RESULT_VERSION = 1
"""Counted up, with the format of a comparison's cells, when the same settings, inputs and weights give other
pictures."""
_TOLD = ("num_frames", "fps", "height", "width", "has_audio")
"""What a report has to say of its result."""

JOURNAL = "placing.json"
_EARLY_SHORT = (".mov", ".mkv", ".m4v")
_MOST_BYTES = 255
"""Of the name of a file."""
_MOST_UP = 2
"""Folders from the files of a result that is not placed yet up to its place."""


class ResultError(ValueError):
    """Writing a result would replace a file that is not a result of ours."""


class ResultInUseError(PermissionError):
    """A new result that cannot take its name, because another program has the former one open."""


@dataclass(frozen=True)
class ResultFiles:
    """The files of one result."""

    video: Path
    """A video, or a folder of pictures."""
    side_by_side: Path | None = None

    @property
    def report(self) -> Path:
        return report_path(self.video)

    def __iter__(self) -> Iterator[Path]:
        yield from (self.video, self.report)
        if self.side_by_side is not None:
            yield self.side_by_side

    def numbered(self, number: int) -> ResultFiles:
        """The names under which a former result is set aside."""
        side = self.side_by_side
        return ResultFiles(
            sibling(self.video, f".{number}"), None if side is None else sibling(side, f".{number}")
        )

    def inside(self, folder: Path) -> ResultFiles:
        """Return files of the same names in another folder."""
        side = self.side_by_side
        return ResultFiles(folder / self.video.name, None if side is None else folder / side.name)


@dataclass(frozen=True)
class PlainFiles:
    """Files of a result that say themselves what they were made of."""

    paths: tuple[Path, ...]

    def __iter__(self) -> Iterator[Path]:
        return iter(self.paths)

    def numbered(self, number: int) -> PlainFiles:
        """The names under which a former result is set aside."""
        return PlainFiles(tuple(path.with_name(f"{path.stem}.{number}{path.suffix}") for path in self.paths))


FilesT = TypeVar("FilesT", ResultFiles, PlainFiles)


def identity_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of all that makes a result; arrays count by their bytes."""
    text = json.dumps({"version": RESULT_VERSION, **content}, sort_keys=True, default=_as_text)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def check_inputs_stay(outputs: Iterable[Path], inputs: Iterable[object]) -> None:
    """No file that is read is written, under whatever name: through links, ``~``, another case of letters.

    Args:
        inputs: paths, as users write them; what is no path is passed over.

    Raises:
        ResultError: one is.
    """
    sources = [
        local_path(source) for source in inputs if isinstance(source, str | os.PathLike) and os.fspath(source)
    ]
    for output in outputs:
        for source in sources:
            if _same_file(local_path(output), source):
                raise ResultError(
                    f"{source} would be replaced by a result of that name; choose another output folder or "
                    "name"
                )


def read_result(files: ResultFiles, *, is_writing: bool = False) -> dict[str, Any] | None:
    """The JSON of the result that is there; None where there is nothing.

    Args:
        is_writing: give the JSON of an earlier version its name of today.

    Raises:
        ResultError: a file of one of these names is not ours: no JSON of ours fits it.
    """
    there = [path for path in files if os.path.lexists(path) and not _is_empty_folder(path)]
    if not there:
        return None
    early = _early_report_path(files.video)
    report = _report(files.report if early is None else early)
    if report is None or not _fits(files, report):
        raise ResultError(
            f"{there[0]} is there and is no result of mimic's (no {files.report.name} of ours fits it); it "
            "is not replaced. Choose another output folder or name, or move it away"
        )
    if early is not None and is_writing:
        os.replace(early, files.report)
    return report


def is_same(report: Mapping[str, Any] | None, files: ResultFiles, identity: str) -> bool:
    """Whether a result of this identity is there as a whole."""
    if report is None or report.get("identity") != identity or "seconds" not in report:
        return False
    return all(name in report["output"] for name in _TOLD) and all(path.exists() for path in files)


@contextlib.contextmanager
def set_aside(files: FilesT, *, is_kept: bool) -> Iterator[FilesT | None]:
    """Make room for a new result while the body writes it; undone if the body raises.

    What killed processes left of it is removed.

    Args:
        is_kept: keep what is there under its next free number; else it is replaced when the new one is whole.

    Yields:
        the names of the former result, None where there was none or it is not kept.
    """
    for path in files:
        remove_begun(path)
    there = [path for path in files if path.exists() and not _is_empty_folder(path)]
    if not is_kept or not there:
        yield None
        return
    former = files.numbered(_free_number(files))
    moves = [(path, name) for path, name in zip(files, former) if path.exists()]
    for path, name in moves:
        _move(path, name)
    try:
        yield former
    except BaseException:
        for path, name in moves:
            if not path.exists():
                os.replace(name, path)
        raise


def place(staged: Path, files: ResultFiles, *, is_former_kept: bool) -> ResultFiles | None:
    """Move the files of a new result from another folder of the same disk to their names.

    If this is interrupted at any moment, `finish_placing` completes it.

    Args:
        staged: the folder; holds files of the same names.
        files: the names.
        is_former_kept: keep what is there under its next free number; else it is replaced.

    Returns:
        the names of the former result; None if there was none or it is not kept.
    """
    is_there = any(os.path.lexists(path) for path in files)
    number = _free_number(files) if is_former_kept and is_there else None
    side = None if files.side_by_side is None else files.side_by_side.name
    beside = os.path.relpath(files.video.parent, staged)
    journal = {"folder": beside, "video": files.video.name, "side_by_side": side, "former": number}
    write_json(staged / JOURNAL, journal)
    finish_placing(staged)
    return None if number is None else files.numbered(number)


def finish_placing(staged: Path) -> bool:
    """Complete a `place` that was interrupted; returns whether there was one."""
    journal = _json_of(staged / JOURNAL)
    if journal is None or not _is_journal(journal) or not _is_above(journal["folder"]):
        return False
    beside = staged / journal["folder"]
    if not any(os.path.lexists(place / journal["video"]) for place in (staged, beside)):
        return False
    side = journal["side_by_side"]
    files = ResultFiles(beside / journal["video"], None if side is None else beside / side)
    former = files if journal["former"] is None else files.numbered(journal["former"])
    for path, aside in zip(files, former):
        new = staged / path.name
        if new.exists():  # else it was moved before the interruption
            if aside != path and path.exists():
                _move(path, aside)
            try:
                if path.is_dir():
                    shutil.rmtree(path)  # a former folder of pictures that is replaced
                replace(new, path)
            except PermissionError as error:
                raise ResultInUseError(
                    f"{path} cannot be replaced (another program has it open, or it may not be changed); the "
                    f"new result is whole in {staged}. Free it and rerun the command, which moves the result "
                    "to its place"
                ) from error
    (staged / JOURNAL).unlink()
    return True


def _is_journal(content: Mapping[str, Any]) -> bool:
    """Whether a journal has what `place` writes; what another program left is not followed."""
    video, side, former = (content.get(name) for name in ("video", "side_by_side", "former"))
    names = (video, video if side is None else side)
    are_names = all(_is_name(name) for name in names)
    is_number = former is None or (type(former) is int and former > 0)
    has_all = content.keys() >= {"folder", "video", "side_by_side", "former"}
    return has_all and are_names and is_number and isinstance(content["folder"], str)


def _is_name(name: object) -> bool:
    """Whether a value can be the name of a file."""
    try:
        is_name = isinstance(name, str) and name == Path(name).name != "" and "\0" not in name
        return is_name and len(os.fsencode(str(name))) <= _MOST_BYTES
    except UnicodeEncodeError:
        return False


def _is_above(folder: str) -> bool:
    """Whether a path leads to one of the two folders that the unfinished state of a result is in."""
    parts = Path(folder).parts
    return set(parts) == {os.pardir} and len(parts) <= _MOST_UP


def _move(path: Path, name: Path) -> None:
    """Rename a former result, or copy it if another program has it open, so that the new one is not lost."""
    try:
        replace(path, name)
    except PermissionError:
        shutil.copy2(path, name)


def hash_of_video(path: Path) -> str:
    """SHA-256 of a result in its JSON, which identifies it; of a folder, over the names and hashes of its
    files."""
    if not path.is_dir():
        return sha256(path)
    files = sorted(file for file in path.rglob("*") if not file.is_dir())
    listed = "".join(f"{file.relative_to(path).as_posix()} {sha256(file)}\n" for file in files)
    return hashlib.sha256(listed.encode("utf-8", "surrogatepass")).hexdigest()


def report_path(video: Path) -> Path:
    """Return the path of the JSON beside a result: ``dance.json`` for ``dance.mp4``, ``dance.gif.json`` for
    ``dance.gif`` (others likewise), ``dance.frames.json`` for a folder of pictures: they do not collide."""
    if is_folder_name(video):
        return video.with_name(f"{video.name}.frames.json")
    if video.suffix.lower() == ".mp4":
        return video.with_suffix(".json")
    return video.with_name(f"{video.name}.json")


def _early_report_path(video: Path) -> Path | None:
    """The JSON of a result that an earlier version made: it was ``dance.json`` for ``dance.mov`` as well."""
    if video.suffix.lower() not in _EARLY_SHORT or report_path(video).exists():
        return None
    path = video.with_suffix(".json")
    report = _report(path)
    return path if report is not None and report["output"].get("file") == video.name else None


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and next(path.iterdir(), None) is None


def _free_number(files: ResultFiles | PlainFiles) -> int:
    """Return the first number under which a former result can be set aside."""
    taken = (any(os.path.lexists(path) for path in files.numbered(number)) for number in itertools.count(1))
    return 1 + next(index for index, is_taken in enumerate(taken) if not is_taken)


def _json_of(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _report(path: Path) -> dict[str, Any] | None:
    content = _json_of(path)
    if content is None or not isinstance(content.get("output"), dict):
        return None
    versions = content.get("versions")
    return content if isinstance(versions, Mapping) and "mimic" in versions else None


def _fits(files: ResultFiles, report: Mapping[str, Any]) -> bool:
    output = report["output"]
    if output.get("file") != files.video.name:
        return False
    side = files.side_by_side
    if side is not None and os.path.lexists(side) and output.get("side_by_side") != side.name:
        return False
    if not files.video.exists():
        return not os.path.lexists(files.video)
    if "sha256" in output:
        return bool(hash_of_video(files.video) == output["sha256"])
    try:  # of before results had a hash
        found = probe(files.video)
    except (VideoError, OSError):
        return False
    keys: Sequence[str] = ("num_frames", "height", "width")
    return all(output.get(key) == getattr(found, key) for key in keys)


def _same_file(one: Path, other: Path) -> bool:
    try:
        if one.exists() and other.exists():
            return os.path.samefile(one, other)
    except OSError:
        pass
    return os.path.normcase(os.path.realpath(one)) == os.path.normcase(os.path.realpath(other))


def _as_text(value: object) -> str:
    if isinstance(value, np.ndarray):
        return (
            hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
            + f" {value.shape} {value.dtype}"
        )
    return str(value)
