"""Keep what is finished of a result beside it, so that an interrupted run continues where it stopped.

The folder ``<case>.unfinished/<identity>`` holds the latents after the last saved denoising step, then
decoded frames, and at the end the files of the result until all of them are whole. Only a run of the same
identity (settings, inputs, weights, versions) reads it. It is removed when the result is in its place.

Legend: F frames, H height, W width; frames are RGB uint8.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimic.files import remove_partial
from mimic.generation.saved_file import DAMAGED, Saved, read_frames, read_saved, state_of, write_saved
from mimic.generation.saving_budget import SavingBudget
from mimic.generation.step_state import Generators, StepState, UnknownStateError
from mimic.results import JOURNAL, ResultFiles, finish_placing, identity_of, place
from mimic.video.formats import stem_of
from pose.text import one_line

log = logging.getLogger("mimic")

SUFFIX = ".unfinished"
MAX_WAITING_BYTES = 4 * 2**20
"""Decoded frames that wait in memory until they are saved together."""
_SPARE_BYTES = 64 * 2**20
"""Of the disk, which saving leaves free."""

_PACKAGES = ("mimic", "torch", "diffusers", "transformers")
_STEPS, _FRAMES = "denoising.safetensors", "frames_{:06d}.safetensors"


class Unfinished:
    """The unfinished state of one result.

    Args:
        files: the files of the result.
        identity: hash of everything that makes the result.
        versions: of packages; a state of other versions is not used, because its frames could differ from
            those that follow.
        budget: limits the time spent on saving.
    """

    def __init__(
        self,
        files: ResultFiles,
        identity: str,
        *,
        versions: Mapping[str, str],
        budget: SavingBudget | None = None,
    ) -> None:
        same = {name: versions.get(name) for name in _PACKAGES}
        self.identity = identity_of({"identity": identity, "versions": same})
        self.folder = folder_of(files) / self.identity[:12]
        self.files = files
        self.staged = files.inside(self.folder)
        """Where the files of the result are written until all of them are whole."""
        budget = budget or SavingBudget()
        self.about: dict[str, str] = {}
        """Entries stored with everything that is saved from now on."""
        path = self.folder / _STEPS
        found = read_saved(path, self.identity)
        self.steps = KeptSteps(path, self.identity, budget, self.about, found=found)
        self.frames = KeptFrames(self.folder, self.identity, budget, self.about)
        self._clean()

    def announce(self) -> None:
        """Say where the run continues, and which unfinished states of this result have another identity."""
        name, told = stem_of(self.files.video), self.describe()
        if told is not None:
            log.info("%s: continuing an interrupted run (%s)", name, told)
        for other in sorted(folder_of(self.files).glob("*")):
            if other != self.folder and other.is_dir():
                log.info(
                    "%s: %s holds an unfinished run with other settings, inputs or weights; remove it if you "
                    "do not need it",
                    name,
                    other,
                )

    def describe(self) -> str | None:
        """Describe what is saved; None if nothing is."""
        if self.frames.num_frames:
            return f"{self.frames.num_frames} decoded frames"
        if self.steps.num_saved:
            return f"denoising step {self.steps.num_saved} of {self.steps.num_steps}"
        return None

    @contextlib.contextmanager
    def saved_on_failure(self) -> Iterator[None]:
        """Save what is finished if the body raises, and say so."""
        try:
            yield
        except BaseException:
            self.steps.flush()
            self.frames.flush()
            told = self.describe()
            if told is not None:
                log.warning(
                    "%s is unfinished: %s saved in %s; the same command continues from there",
                    self.files.video,
                    told,
                    self.folder,
                )
            else:
                self._remove_folder()
            raise

    def place(self, *, is_former_kept: bool) -> ResultFiles | None:
        """Move the staged files to their names and remove the state; returns the names of the former
        result."""
        former = place(self.folder, self.files, is_former_kept=is_former_kept)
        self.remove()
        return former

    def remove(self) -> None:
        """Remove the state."""
        self.steps.path.unlink(missing_ok=True)
        self.frames.remove()
        self._clean()
        self._remove_folder()

    def _clean(self) -> None:
        """Remove files that a killed or failed run left half written."""
        if self.folder.is_dir():
            remove_partial(self.folder)
            for staged in self.staged:
                for path in (staged, *self.folder.glob(f"*{SUFFIX}*{staged.suffix}")):
                    if path.is_dir():  # of pictures
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink(missing_ok=True)

    def _remove_folder(self) -> None:
        for folder in (self.folder, self.folder.parent):
            with contextlib.suppress(OSError):  # something else is in it
                folder.rmdir()


def folder_of(files: ResultFiles) -> Path:
    """Return the folder of all unfinished states of a result."""
    return files.video.with_name(stem_of(files.video) + SUFFIX)


def is_interrupted(files: ResultFiles) -> bool:
    """Whether a run was interrupted while it moved a complete result to its place."""
    return any(folder_of(files).glob(f"*/{JOURNAL}"))


def finish_interrupted(files: ResultFiles) -> None:
    """Finish moving a complete result to its place, if a run was interrupted while doing so."""
    for folder in sorted(folder_of(files).glob("*")):
        if finish_placing(folder):
            for path in (folder / _STEPS, *folder.glob(_FRAMES.replace("{:06d}", "*"))):
                path.unlink(missing_ok=True)
            for empty in (folder, folder.parent):
                with contextlib.suppress(OSError):
                    empty.rmdir()


class KeptSteps:
    """Saves finished denoising steps; see `mimic.families.steps.StepKeeper`.

    Args:
        path: of the file.
        identity: stored in the file.
        budget: limits the time spent on saving.
        about: further texts stored in the file.
        found: what an interrupted run has left.

    Attributes:
        num_saved: number of denoising steps that are finished and saved.
        num_steps: number of all denoising steps; 0 if not known yet.
        found: tensors and texts of the file that was found; None if there was none.
    """

    def __init__(
        self,
        path: Path,
        identity: str,
        budget: SavingBudget,
        about: Mapping[str, str] | None = None,
        *,
        found: Saved | None,
    ) -> None:
        self.path = path
        self._about = {} if about is None else about
        self.num_saved = self.num_steps = 0
        self._identity = identity
        self._budget = budget
        self._before: dict[str, Any] = {}
        self._newest: StepState | None = None
        self._is_working = True
        self.found = found
        self._saved = None if self.found is None else state_of(path, self.found)
        if self._saved is None:
            self.found = None
        else:
            self.num_saved, self.num_steps = self._saved.num_done, self._saved.num_steps

    def finished_latents(self) -> Tensor | None:
        """Return the latents after the last step, float32 on the CPU; None if steps remain."""
        if self._saved is None or self._saved.num_done < self._saved.num_steps:
            return None
        return self._saved.latents

    def resume(
        self, latents: Tensor, *, num_steps: int, scheduler: Any, generator: Generators
    ) -> tuple[int, Tensor]:
        """Restore the state after the last saved step; see `mimic.families.steps.StepKeeper`."""
        self.num_steps, self._before = num_steps, dict(vars(scheduler))
        saved, self._saved = self._saved, None
        if saved is not None and saved.num_steps == num_steps and saved.latents.shape == latents.shape:
            try:
                saved.restore(scheduler, generator, latents.device)
                return saved.num_done, saved.latents.to(latents)
            except (RuntimeError, ValueError, TypeError) as error:
                log.warning(DAMAGED, self.path, one_line(error))
        self.num_saved = 0
        return 0, latents

    def keep(self, latents: Tensor, *, num_done: int, scheduler: Any, generator: Generators) -> None:
        """Note a finished step; save it if it is the last one or the budget allows it."""
        self._newest = StepState.after_step(
            latents, num_done, self.num_steps, scheduler, generator, before=self._before
        )
        if num_done == self.num_steps or self._budget.allows_another():
            self.flush()

    def flush(self) -> None:
        """Save the newest finished step, unless it is saved already."""
        newest, self._newest = self._newest, None
        if newest is None or not self._is_working:
            return
        try:
            with self._budget():
                tensors, about = newest.as_tensors()
                self._is_working = write_saved(self.path, tensors, {**self._about, **about}, self._identity)
        except UnknownStateError as error:
            log.warning("denoising steps are not saved: %s", error)
            self._is_working = False
        if self._is_working:
            self.num_saved = newest.num_done


class FollowedSteps(KeptSteps):
    """The state that the first of several processes has found; saves nothing."""

    def __init__(self, found: Saved | None) -> None:
        super().__init__(Path(os.devnull), "", SavingBudget(), found=found)
        self._is_working = False


class KeptFrames:
    """Saves decoded frames, in files of one or several chunks of the decoder.

    Attributes:
        num_chunks: number of saved chunks.
        num_frames: number of saved frames.
    """

    def __init__(
        self, folder: Path, identity: str, budget: SavingBudget, about: Mapping[str, str] | None = None
    ) -> None:
        self._about = {} if about is None else about
        self.num_chunks = self.num_frames = 0
        self._folder, self._identity, self._budget = folder, identity, budget
        self._waiting: list[NDArray[np.uint8]] = []
        self._is_working = True
        while (path := self._path(self.num_chunks)).exists():
            found = read_frames(path, identity)
            if found is None:
                break
            self.num_chunks += found[1]
            self.num_frames += len(found[0])

    def read(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the saved frames, ``H x W x 3``."""
        chunk = 0
        while chunk < self.num_chunks:
            found = read_frames(self._path(chunk), self._identity)
            if found is None:
                raise OSError(f"{self._path(chunk)} cannot be read any more; rerun the same command")
            yield from found[0].numpy()
            chunk += found[1]

    def keep(self, frames_FHW3: NDArray[np.uint8]) -> None:
        """Note a decoded chunk; save it, and those that wait, if the budget allows it."""
        if not self._is_working:
            return
        self._waiting.append(frames_FHW3)
        is_full = sum(frames.nbytes for frames in self._waiting) >= MAX_WAITING_BYTES
        if is_full or self._budget.allows_another():
            self.flush()

    def flush(self) -> None:
        """Save the chunks that wait in memory."""
        if not self._waiting or not self._is_working:
            return
        waiting, self._waiting = self._waiting, []
        frames = np.concatenate(waiting)
        if not self._has_room(frames.nbytes):
            self._stop("the disk is almost full")
            return
        with self._budget():
            about = {**self._about, "num_chunks": str(len(waiting))}
            path = self._path(self.num_chunks)
            is_saved = write_saved(path, {"frames": torch.from_numpy(frames)}, about, self._identity)
        if not is_saved:
            self._stop(None)
            return
        self.num_chunks += len(waiting)
        self.num_frames += len(frames)

    def remove(self) -> None:
        """Remove all files."""
        self._waiting.clear()
        for path in self._folder.glob(_FRAMES.replace("{:06d}", "*")):
            path.unlink(missing_ok=True)
        self.num_chunks = self.num_frames = 0

    def _stop(self, reason: str | None) -> None:
        """Leave the space on the disk to the result; the frames can be decoded again from the latents."""
        self._is_working = False
        self.remove()
        if reason is not None:
            log.warning("decoded frames are not saved (%s); an interrupted run decodes them again", reason)

    def _has_room(self, num_bytes: int) -> bool:
        """Whether the disk holds these frames and as much again for the result."""
        there = next(place for place in (self._folder, *self._folder.absolute().parents) if place.exists())
        return shutil.disk_usage(there).free > 2 * num_bytes + _SPARE_BYTES

    def _path(self, chunk: int) -> Path:
        return self._folder / _FRAMES.format(chunk)
