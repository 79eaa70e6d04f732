"""Report a running training: a progress bar or lines, one JSON line for each step, curves for TensorBoard."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mimic.files import whole_file
from mimic.progress import MOST_S_BETWEEN_LINES, S_BETWEEN_EVENTS, emit, has_bar
from mimic.training.clips import add_clip
from mimic.training.state import StateError
from mimic.training.trackers import Tracker
from mimic.video import probe, read_frames

LOG_FILE = "log.jsonl"
_MOST_STEPS = 10**12
_LARGEST = 1e300  # whole numbers in JSON may be larger than any float
CLIP = "validation clip"
"""Name under which TensorBoard has the validation videos."""


class TrainingLog:
    """One line a step in `log.jsonl`, on the screen, and in TensorBoard's files.

    Args:
        folder: where the files go.
        step: steps made before this start; lines that a killed run wrote of later ones are removed.
        max_steps: where the bar ends.
        batch_size: clips a step.
        num_frames: frames of a clip.
        log_every: steps to a printed line where there is no bar; a minute without one is the most.
        tensorboard: write its files.
        say: prints a sentence.
        is_quiet: show no bar and no lines.
        tracker: gets the figures and pictures as well.

    Raises:
        StateError: a file cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        step: int,
        max_steps: int,
        batch_size: int,
        num_frames: int = 1,
        log_every: int,
        tensorboard: bool,
        say: Callable[[str], None],
        is_quiet: bool = False,
        tracker: Tracker | None = None,
    ) -> None:
        self._path = folder / LOG_FILE
        self._batch_size, self._log_every, self._say = batch_size, log_every, say
        self._num_frames, self._tracker = num_frames, tracker
        self._has_bar = has_bar() and not is_quiet
        self._is_quiet = is_quiet
        with _explained(self._path):
            self._last_line = cut_log(self._path, step)
            # Its end is where the next line goes; opened like this, the last one can be written anew.
            self._file = open(self._path, "r+b" if self._path.exists() else "w+b")  # noqa: SIM115
            self._file.seek(0, os.SEEK_END)
        self._curves = _curves(folder / "tensorboard", step, say) if tensorboard else None
        from tqdm.auto import tqdm as bar  # a widget in notebooks

        self._bar: tqdm[Any] = bar(
            total=max_steps,
            initial=step,
            desc="training",
            unit=" steps",
            disable=not self._has_bar,
        )
        self._max_steps = max_steps
        self._seconds_a_step: float | None = None
        self._last = self._said = time.monotonic()
        self._emitted = float("-inf")

    def write(self, step: int, record: Mapping[str, Any], *, waited: float = 0.0) -> None:
        """Note the step that was just made (counted from 1).

        Args:
            step: its number.
            record: at least `loss` and `lr`.
            waited: seconds of it spent waiting for clips.
        """
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        before = self._seconds_a_step
        self._seconds_a_step = seconds if before is None else 0.9 * before + 0.1 * seconds
        rate = self._batch_size / max(seconds, 1e-9)
        speed = {
            "clips_per_s": rate,
            "frames_per_s": rate * self._num_frames,
            "waiting": min(1.0, waited / max(seconds, 1e-9)),
        }
        line = {"step": step, **record, **{name: round(value, 4) for name, value in speed.items()}}
        self._write_line(line)
        self._show(step, record)
        self._draw(step, {**record, **speed})

    def start(self, record: Mapping[str, Any]) -> None:
        """Write a line of step 0, the model before training, in place of one that is there."""
        if self._last_line:
            with _explained(self._path):
                self._file.seek(-len(_encoded(self._last_line)), os.SEEK_END)
        self._write_line({"step": 0, **record})
        self._draw(0, record)

    def show(self, step: int, video: Path) -> None:
        """Show a validation video and its middle picture in TensorBoard and the tracker."""
        if (self._curves is None and self._tracker is None) or not video.is_file():
            return
        frames = list(read_frames(video))
        picture = frames[len(frames) // 2]
        if self._curves is not None:
            self._curves.add_image("validation", picture, step, dataformats="HWC")
        if self._tracker is not None:
            self._tracker.show(step, "validation", picture)
        if len(frames) == 1:
            return
        fps = float(probe(video).fps)
        if self._curves is not None:
            add_clip(self._curves, CLIP, step, frames, fps=fps)
        if self._tracker is not None:
            self._tracker.show_clip(step, CLIP, frames, fps=fps)

    def add(self, step: int, record: Mapping[str, Any]) -> None:
        """Add the results of validation to the line of the step written last, if that was `step`."""
        self._draw(step, record)
        if self._last_line.get("step") != step:
            return
        line = {**self._last_line, **record}
        with _explained(self._path):
            self._file.seek(-len(_encoded(self._last_line)), os.SEEK_END)
        self._write_line(line)

    def pause(self) -> None:
        """What was done since the last step (validating, saving) counts to no step."""
        self._last = time.monotonic()

    def close(self) -> None:
        """Close the files."""
        self._bar.close()
        with contextlib.suppress(OSError):
            self._file.close()
        if self._curves is not None:
            self._curves.close()

    def _write_line(self, line: dict[str, Any]) -> None:
        with _explained(self._path):
            self._file.write(_encoded(line))
            self._file.flush()
        self._last_line = line

    def _draw(self, step: int, record: Mapping[str, Any]) -> None:
        figures = _numbers(record)
        if self._tracker is not None:
            self._tracker.log(step, dict(figures))
        if self._curves is not None:
            for name, value in figures:
                self._curves.add_scalar(name, value, step)

    def _show(self, step: int, record: Mapping[str, Any]) -> None:
        assert self._seconds_a_step is not None
        rate = self._batch_size / max(self._seconds_a_step, 1e-9)
        loss, lr = _short(record["loss"]), f"{record['lr']:.2e}"
        self._bar.set_postfix(loss=loss, lr=lr, clips_per_s=f"{rate:.2f}", refresh=False)
        self._bar.update()
        if self._is_quiet:
            return
        now, is_last = time.monotonic(), step == self._max_steps
        seconds_left = self._seconds_a_step * (self._max_steps - step)
        if is_last or now - self._emitted >= S_BETWEEN_EVENTS:
            self._emitted = now
            emit(
                "progress", stage="training", unit="step", done=step, total=self._max_steps,
                seconds_left=round(seconds_left, 3),
            )  # fmt: skip
        is_due = step % self._log_every == 0 or now - self._said >= MOST_S_BETWEEN_LINES
        if self._has_bar or not (is_due or is_last):
            return
        self._said = now
        left = tqdm.format_interval(seconds_left)
        self._say(f"step {step}/{self._max_steps}  loss {loss}  lr {lr}  {rate:.2f} clips/s  {left} left")


def cut_log(path: Path, step: int) -> dict[str, Any]:
    """Keep of a log only whole lines of steps up to `step`; returns the last of them, empty without any.

    Raises:
        StateError: something else has its name.
    """
    if not path.exists():
        return {}
    if not path.is_file():
        raise StateError(f"{path} is no file, so the log cannot go on in it; move it away")
    lines = path.read_bytes().splitlines(keepends=True)
    read = [(line, _content(line)) for line in lines if line.endswith(b"\n")]
    kept = [(line, content) for line, content in read if content is not None and content["step"] <= step]
    last = kept[-1][1] if kept else {}
    encoded = [line for line, _ in kept[:-1]] + [_encoded(last) for _ in kept[-1:]]
    if encoded != lines:
        with whole_file(path) as beside:
            beside.write_bytes(b"".join(encoded))
    return last


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log, without those that are damaged; none if there is no log.

    Each has a `step`; a loss, and figures of validation and of levels, are finite numbers or left out.

    Raises:
        OSError: the file cannot be read.
    """
    if not path.is_file():
        return []
    found = (_content(line) for line in path.read_bytes().splitlines())
    return [{name: _sound(value) for name, value in line.items()} for line in found if line is not None]


def _encoded(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"


def _content(line: bytes) -> dict[str, Any] | None:
    """What a line of the log holds; None if it is damaged."""
    try:
        content = json.loads(line)
        step = content["step"]
        json.dumps(content)  # what is too deep for that is nothing that was written here
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return content if type(step) is int and 0 <= step < _MOST_STEPS else None


def _sound(value: Any) -> Any:
    """A value of a line without numbers that no figure has; texts stay, as reasons why there are none."""
    if isinstance(value, dict):
        return {name: own for name, own in value.items() if isinstance(own, str) or _is_figure(own)}
    return value if isinstance(value, str) or _is_figure(value) else None


def _is_figure(value: object) -> bool:
    return type(value) in (int, float) and abs(value) < _LARGEST  # type: ignore[arg-type]


def _curves(folder: Path, step: int, say: Callable[[str], None]) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        say("no curves for TensorBoard, which is not installed: `pip install 'mimic-motion[train]'`")
        return None
    with _explained(folder):
        return SummaryWriter(str(folder), purge_step=step + 1)


def _numbers(record: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found = []
    for name, value in record.items():
        if isinstance(value, Mapping):
            found += _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((prefix + name, float(value)))
    return found


def _short(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"


@contextlib.contextmanager
def _explained(path: Path) -> Any:
    try:
        yield
    except OSError as error:
        raise StateError(
            f"{path} could not be written: {error.strerror or error}. Checkpoints are untouched; make room "
            "or give another output_dir, then rerun the command to resume from the last one"
        ) from error
