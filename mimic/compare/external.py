"""Variants of a comparison that are not ours: finished videos, and programs that make them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mimic.compare.cells import Cell
from mimic.compare.inputs import CompareError
from mimic.compare.settings import VariantSettings
from mimic.files import local_path
from mimic.metrics.clips import EvaluatedClip, find_clips
from mimic.video import VideoWriter
from mimic.weights.sources import sha256

_TOLD_LINES = 3
_GUARD = """
import os, subprocess, sys, threading

def end_with_parent():
    sys.stdin.buffer.read()  # ends when nobody holds the other end
    program.kill()

program = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
threading.Thread(target=end_with_parent, daemon=True).start()
code = program.wait()
os._exit(code if code >= 0 else 128 - code)
"""
"""Runs a program and ends it when standard input ends. Costs the start of a Python, some 30 ms."""


def check_external(variants: Sequence[VariantSettings], clips: Mapping[str, int]) -> None:
    """Refuse a variant whose videos or program are missing, before anything is generated.

    Args:
        clips: number of frames of each clip's result, by the clip's name; empty before they are known.

    Raises:
        CompareError: a video is missing or has another number of frames; a program is not installed.
        EvaluationError, VideoError: a video cannot be read.
    """
    for variant in variants:
        if variant.videos is not None:
            try:
                found = find_clips(local_path(variant.videos))
            except (OSError, ValueError) as error:
                raise CompareError(f"videos of variant {variant.name}: {error}") from error
            for name, num_frames in clips.items():
                _check_length(variant, name, found.get(name), num_frames)
        elif variant.command is not None:
            program = _words(variant.command)[0]
            if shutil.which(program) is None:
                raise CompareError(f"command of variant {variant.name}: there is no program {program}")
            try:
                variant.command.format(**_example())
            except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
                known = ", ".join(f"{{{name}}}" for name in _example())
                wrong = "an unknown placeholder" if isinstance(error, KeyError) else "a wrong placeholder:"
                raise CompareError(
                    f"command of variant {variant.name} has {wrong} {error}; known: {known}"
                ) from None


def identity_of_external(cell: Cell) -> dict[str, Any]:
    """What decides the frames of such a cell: the video's content, or the command and the files it names."""
    variant = cell.variant
    if variant.videos is not None:
        clip = find_clips(local_path(variant.videos))[cell.clip.name]
        return {"videos": [sha256(path) for path in clip.pictures or (clip.path,)]}
    assert variant.command is not None
    files = [local_path(word) for word in _words(variant.command)]
    return {
        "command": variant.command,
        "files": {path.name: sha256(path) for path in files if path.is_file()},
    }


def make_external(cell: Cell, *, size: tuple[int, int]) -> dict[str, Any]:
    """Put the cell's video in its place; returns the facts of the run, as a run's own JSON has them.

    Raises:
        CompareError: the program failed, or its video is missing or of another length.
        EvaluationError, VideoError: the video cannot be read.
    """
    cell.folder.mkdir(parents=True, exist_ok=True)
    seconds = None
    if cell.variant.videos is not None:
        clip = find_clips(local_path(cell.variant.videos))[cell.clip.name]
        if clip.path.suffix.lower() == ".mp4":
            shutil.copyfile(clip.path, cell.video)
        else:
            _write(clip, cell.video, fps=cell.clip.fps)
    else:
        seconds = _run(cell, size)
    found = find_clips(cell.video) if cell.video.is_file() else {}
    _check_length(cell.variant, cell.clip.name, next(iter(found.values()), None), cell.clip.num_frames)
    kind = "videos" if cell.variant.videos is not None else "command"
    return {
        "seconds": seconds,
        "stages": [],
        "settings": {},
        "model": {
            "name": getattr(cell.variant, kind),
            "pipeline": kind,
            "device": "not known",
            "weights_sha256": {},
        },
    }


def _run(cell: Cell, size: tuple[int, int]) -> float:
    assert cell.variant.command is not None
    values = {
        "reference": cell.clip.reference,
        "driving": cell.clip.truth_video,
        "poses": cell.clip.folder / "poses.npz",
        "output": cell.video,
        "seed": cell.seed,
        "height": size[0],
        "width": size[1],
        "fps": f"{cell.clip.fps:g}",
        "num_frames": cell.clip.num_frames,
    }
    # Split first, so that a path with a space in it stays one word.
    words = [word.format(**values) for word in _words(cell.variant.command)]
    start = time.perf_counter()
    code, output = ended_with_us(words)
    seconds = time.perf_counter() - start
    told = " | ".join(line.strip() for line in output.strip().splitlines()[-_TOLD_LINES:])
    if code != 0:
        raise CompareError(f"{words[0]} ended with exit code {code}: {told or 'it said nothing'}")
    if not cell.video.is_file():
        raise CompareError(f"{words[0]} ended well and wrote no {cell.video}: {told or 'it said nothing'}")
    return seconds


def ended_with_us(words: Sequence[str]) -> tuple[int, str]:
    """Run a program, which ends when this process does, however that ends.

    Args:
        words: the program and its arguments.

    Returns:
        its exit code and all that it said.
    """
    reader, writer = os.pipe()  # nobody else has the writing end, so that it closes with this process
    try:
        guard = subprocess.Popen(
            [sys.executable, "-c", _GUARD, *words],
            stdin=reader, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )  # fmt: skip
    except BaseException:
        os.close(writer)
        raise
    finally:
        os.close(reader)
    with guard:
        try:
            told, _ = guard.communicate()
        finally:
            os.close(writer)
    return guard.returncode, told


def _words(command: str) -> list[str]:
    """The program and its arguments; the word ``python`` is the one that runs this."""
    words = shlex.split(command, posix=sys.platform != "win32")
    if not words:
        raise CompareError("a command is empty")
    return [sys.executable, *words[1:]] if words[0] == "python" else words


def _example() -> dict[str, object]:
    """What placeholders stand for, in the types of `_run`."""
    paths = dict.fromkeys(("reference", "driving", "poses", "output"), Path("x"))
    return {**paths, "seed": 0, "height": 0, "width": 0, "fps": "0", "num_frames": 0}


def _check_length(variant: VariantSettings, name: str, clip: EvaluatedClip | None, num_frames: int) -> None:
    if clip is None:
        raise CompareError(
            f"variant {variant.name} has no video of the clip {name}; expected {name}.mp4 or a folder {name} "
            f"of pictures in {variant.videos}"
        )
    if clip.num_frames != num_frames:
        raise CompareError(
            f"variant {variant.name}: its video of {name} has {clip.num_frames} frames; the comparison "
            f"measures {num_frames}"
        )


def _write(clip: EvaluatedClip, path: Path, *, fps: float) -> None:
    with VideoWriter(path, height=clip.height, width=clip.width, fps=fps, crf=0) as writer:
        for frame in clip.frames():
            writer.write(frame)
