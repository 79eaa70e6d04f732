"""The cases of a run: what they share, how one is made, what became of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from mimic.config import CaseSettings, InferenceConfig
from mimic.distributed import Ranks
from mimic.generation.animate import generate
from mimic.generation.checks import result_files
from mimic.generation.memory_mode import MemoryMode, is_out_of_memory, retried_with_less_memory
from mimic.generation.ready import Parts, Ready, get_ready
from mimic.generation.result import GenerateResult
from mimic.progress import counted


@dataclass(frozen=True)
class CaseFailure:
    """A failed case and its error."""

    name: str
    error: Exception


@dataclass(frozen=True)
class RunResult:
    """Results and failures of the cases of a config, in their order."""

    results: tuple[GenerateResult, ...]
    failures: tuple[CaseFailure, ...]


@dataclass(frozen=True)
class Work:
    """What all cases of a run share; it can be sent to other processes."""

    config: InferenceConfig
    """The model, and the cases to make, each with its name."""
    base: Path
    checkpoint: Path | None
    device: torch.device
    output_dir: Path
    identities: Mapping[str, str]
    """By name of the case, see `mimic.generation.run.case_identities`."""
    overwrite: bool

    def parts(self) -> Parts:
        """Return driver and model, not loaded yet."""
        return Parts(self.config, self.base, self.checkpoint, self.device)


def make_case(
    work: Work,
    ready: Ready,
    number: int,
    *,
    memory: MemoryMode,
    is_progress_shown: bool,
    say: Callable[[str], None],
) -> GenerateResult | CaseFailure:
    """Make one case of the run; its failure is returned.

    Args:
        work: what the cases share.
        ready: model and driver, and the references' poses of all cases of `work`.
        number: of the case.
        memory: chooses how much memory is used; kept from case to case.
        is_progress_shown: show the progress of each stage.
        say: called with lines that describe the progress.

    Raises:
        whatever fails, if several processes share the case: the others wait for this one.
    """
    name, case = work.config.case_names()[number], work.config.test_case[number]
    say(f"{name}: animating {case.ref_image_path} with {case.ref_video_path}")
    ranks = ready.pipeline.ranks
    make = functools.partial(
        generate,
        case.ref_image_path,
        case.ref_video_path,
        pipeline=ready.pipeline,
        output=result_files(work.output_dir, name, case).video,
        reference_pose=ready.reference_poses[number],
        driver=ready.driver,
        overwrite=work.overwrite,
        is_progress_shown=is_progress_shown,
        about={"model": ready.model},
        identity=work.identities[name],
        memory=memory,
        **case.model_dump(include=set(CaseSettings.model_fields)),
    )
    try:
        result = retried_with_less_memory(make, memory, ranks, say=lambda line: say(f"{name}: {line}"))
    except Exception as error:
        if ranks is not None:
            raise
        if len(work.config.test_case) > 1:  # the caller reports the failure of a single case
            say(f"{name}: failed. {why_failed(error)}")
        return CaseFailure(name, error)
    say(f"{name}: {summary(result)}")
    if result.missing is not None:
        say(f"{name}: the result is incomplete: {result.missing}")
    if result.former is not None:
        say(f"{name}: the former result had other settings or inputs; renamed to {result.former.name}")
    return result


def run_here(
    work: Work, *, ranks: Ranks | None, is_progress_shown: bool, say: Callable[[str], None]
) -> RunResult:
    """Check all cases, load the model, run one case after another."""
    ready = get_ready(work.config, work.parts(), output_dir=work.output_dir, say=say)
    ready.pipeline.ranks = ranks
    memory = MemoryMode(work.config.memory_mode)
    return collected(
        make_case(work, ready, number, memory=memory, is_progress_shown=is_progress_shown, say=say)
        for number in range(len(work.config.test_case))
    )


def collected(outcomes: Iterable[GenerateResult | CaseFailure]) -> RunResult:
    """Sort results from failures."""
    results: list[GenerateResult] = []
    failures: list[CaseFailure] = []
    for outcome in outcomes:
        if isinstance(outcome, CaseFailure):
            failures.append(outcome)
        else:
            results.append(outcome)
    return RunResult(tuple(results), tuple(failures))


def summary(result: GenerateResult) -> str:
    """Describe a result in one line."""
    sound = ", with audio" if result.has_audio else ""
    beside = f"; side by side in {result.side_by_side}" if result.side_by_side is not None else ""
    return (
        f"{result.path} ({counted(result.num_frames, 'frame')} of {result.width}x{result.height}, "
        f"{round(result.fps, 2):g} fps{sound}){beside}; took {result.seconds:.0f} s"
    )


def why_failed(error: BaseException) -> str:
    """Say on one line why a case failed; of unexpected errors with their class, of full memory what helps."""
    text = " ".join(str(error).split())
    if is_out_of_memory(error):
        return (
            f"memory is full ({text.split('. ')[0]}). Use memory_mode=low (which includes cpu_offload=true), "
            "a smaller height and width, or fewer frames in a window (num_frames) or decoded together "
            "(decode_chunk_size)"
        )
    is_plain = isinstance(error, OSError | ValueError) and text
    return text if is_plain else f"{type(error).__name__}: {text}" if text else type(error).__name__
