"""When is a training validated, and where does the result stand? In the checkpoint whose weights it is of.

The order is: save, validate, write the result and the best so far into that checkpoint. A validation that
fails, or ends the process twice, is recorded there with its reason, and the training continues.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch

from mimic.families.task import TrainingTask
from mimic.training.checkpoints import best_steps
from mimic.training.export import finished, is_shared_out
from mimic.training.logs import TrainingLog
from mimic.training.policy import as_in_training
from mimic.training.report import compared_with_start, validations, write_report
from mimic.training.run import TrainingRun
from mimic.training.settings import TrainSettings
from mimic.training.state import remove_old, update_facts
from mimic.training.validate import ValidationError, told, validate

VALIDATION = "validation"
"""Folder of the videos, and key of the result in a checkpoint's facts and in the log."""
MOST_ATTEMPTS = 2
"""A validation that has ended the process so often (killed for memory, for instance) is not tried again."""


def is_due(settings: TrainSettings, step: int) -> bool:
    """Whether there is a validation after a step, counted from 1."""
    every = settings.validation.every
    return bool(every) and step > 0 and (step % every == 0 or step == settings.max_steps)


def assess_start(run: TrainingRun, log: TrainingLog | None) -> None:
    """Validate the model before the first step, so that later results can be compared with it. Nothing but
    the log keeps the result. All processes have to call this."""
    result = _measured(run)
    if "failed" in result:
        run.say(f"no validation before the first step: {result['failed']}; the training starts")
    else:
        run.say(f"validation before the first step: {_told(result['figures'])} ({_path(run)})")
    if log is not None:
        log.start({VALIDATION: result.get("figures", result)})
        log.show(0, _path(run))
        _report(run)


def is_pending(run: TrainingRun) -> bool:
    """Whether the checkpoint that a training has resumed from lacks the validation that was due."""
    # Checkpoints of the first format were written after their validation.
    if run.facts.get("format", 1) < 2 or not is_due(run.settings, run.progress.step):
        return False
    note = run.facts.get("validation") or {}
    return not ("figures" in note or "failed" in note)


def assess(run: TrainingRun, log: TrainingLog | None) -> None:
    """Validate the checkpoint of the current step and write the result into it. All processes have to call
    this, after `save`.

    Raises:
        StateError: the checkpoint or the result cannot be written.
    """
    run.saving.wait(is_needed=False)  # whatever the validation ends with, the steps are on the disk
    if run.saving.is_lost:
        return  # there is no checkpoint to write the result into
    step = run.progress.step
    attempts = (run.facts.get("validation") or {}).get("attempts", 0)
    if attempts >= MOST_ATTEMPTS:
        run.no_validation = (
            f"the validation after step {step} ended the process {attempts} times; validation is off until "
            "the next start. Lower validation.decode_chunk_size or validation.num_clips"
        )
    if run.no_validation is None:
        _note(run, {"attempts": attempts + 1})
        result = _measured(run)
    else:
        result = {"failed": run.no_validation}
    figures = result.get("figures", {})
    best_by = run.settings.validation.best_by
    value = figures.get(best_by, math.nan)
    if figures and best_by not in figures:
        run.say(f"validation after step {step} has no {best_by}, so that it cannot be the best one")
    if value > run.progress.best.get("value", -math.inf):
        run.progress.best = {"step": step, "value": value}
    _note(run, result)
    if run.is_main:
        keep = run.settings.checkpoints.keep
        remove_old(run.settings.output_dir, keep=keep, also_keep=best_steps(run))
    if "failed" in result:
        run.say(f"no validation after step {step}: {result['failed']}; the training continues")
    else:
        run.say(f"validation after step {step}: {_told(figures)} ({_path(run)})")
    if log is not None:
        log.add(step, {VALIDATION: figures or result})
        log.show(step, _path(run))
        _report(run)


def best_step_told(run: TrainingRun) -> str:
    """Say which step was the best in validation, and how to use it."""
    best = run.progress.best
    if not best:
        return ""
    step, name = int(best["step"]), run.settings.validation.best_by
    before = validations(run.settings.output_dir, last_step=0).get(0, {}).get(name)
    compared = "" if before is None else f", {compared_with_start(best['value'], before)}"
    text = f"; the best validation was that of step {step} ({name} {best['value']:.4g}{compared})"
    if step == run.progress.step:
        return f"{text}, whose weights it holds"
    checkpoint = run.settings.output_dir / f"checkpoint-{step}"
    if not run.settings.checkpoints.keep_best:
        return text
    return f"{text}: `mimic export {checkpoint} OUT` makes a model folder of it"


def _told(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {number:.4g}" for name, number in figures.items())


def _report(run: TrainingRun) -> None:
    """Write the page about the training so far."""
    best = run.progress.best.get("step")
    try:
        write_report(
            run.settings.output_dir,
            best_by=run.settings.validation.best_by,
            best_step=None if best is None else int(best),
            videos=VALIDATION,
            is_finished=run.progress.step == run.settings.max_steps,
        )
    except (OSError, ValueError, TypeError, LookupError) as error:  # the log may hold anything
        run.say(f"report.html could not be written ({error}); the training continues")


def _note(run: TrainingRun, result: dict[str, Any]) -> None:
    """Write a result, and the progress with the best checkpoint so far, into the current checkpoint."""
    changes = {VALIDATION: result, "progress": asdict(run.progress)}
    run.facts = run.facts | changes
    if run.is_main:
        update_facts(run.settings.output_dir / f"checkpoint-{run.progress.step}", changes)
    run.accelerator.wait_for_everyone()


def _measured(run: TrainingRun) -> dict[str, Any]:
    """``figures`` or, with the reason, ``failed``; the same in all processes."""
    settings, result = run.settings.validation, dict[str, Any]()
    try:
        with finished(run) as task:
            if task is not None:
                with as_in_training(task.model, run.accelerator), _decoding(task, settings.decode_chunk_size):
                    figures = validate(
                        task,
                        run.validation,
                        seed=settings.seed,
                        path=_path(run),
                        fps=settings.fps,
                        accelerator=None if is_shared_out(run) else run.accelerator,
                        autocast=run.accelerator.autocast,
                        faces=run.faces,
                    )
                result = {"figures": {name: _finite(value) for name, value in figures.items()}}
    except ValidationError as error:
        result = {"failed": str(error)}
    except Exception as error:  # whatever it is, the trained steps are worth more
        result = {"failed": told(error)}
    if "failed" in result:
        gc.collect()  # what the traceback held
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    if run.accelerator.num_processes > 1:
        shared = [result]
        torch.distributed.broadcast_object_list(shared)
        result = shared[0]
    return result


@contextmanager
def _decoding(task: TrainingTask, chunk: int | None) -> Iterator[None]:
    """In here the pipeline decodes `chunk` frames together; None: as many as the model's defaults say."""
    pipeline = task.pipeline()
    before = pipeline.generation_defaults
    if chunk is not None:
        pipeline.generation_defaults = before | {"decode_chunk_size": chunk}
    try:
        yield
    finally:
        pipeline.generation_defaults = before


def _path(run: TrainingRun) -> Any:
    return run.settings.output_dir / VALIDATION / f"step-{run.progress.step:06d}.mp4"


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValidationError(f"a figure is {value}: the generated frames are not finite")
    return value
