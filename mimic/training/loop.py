"""What happens in a training? Steps, logs, checkpoints and validations, until the last step or a signal.

The order of a step: its clips → random draws → encoding → the model's loss → gradients → weights → average.
Everything random is a function of (seed, step, place in the batch), so that a training that was killed and
resumes from its last checkpoint ends in the same bytes as one that was never disturbed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mimic.data.batch import Sample, collate
from mimic.locks import locked_folder
from mimic.training.assess import assess, is_due, is_pending
from mimic.training.checkpoints import save
from mimic.training.engine import averages, is_deepspeed, local, make_accelerator
from mimic.training.export import FINAL, export, finished
from mimic.training.logs import TrainingLog
from mimic.training.order import generator_of, own_numbers, seed_of
from mimic.training.policy import as_float
from mimic.training.run import TrainingRun
from mimic.training.settings import TrainSettings, learning_rate
from mimic.training.setup import check_folder, set_up
from mimic.training.signals import StopRequest
from mimic.training.state import checkpoints


class TrainingError(RuntimeError):
    """A training that cannot go on: its loss is not finite, step after step."""


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    step: int
    """Steps made, over all starts."""
    final: Path | None
    """The finished model; None when the training was stopped before its last step."""
    stopped_by: str | None = None
    """Name of the signal that stopped it."""


@dataclass(frozen=True)
class StepResult:
    """What one step gave, the same in all processes."""

    loss: float
    terms: dict[str, float]
    norm: float
    """Of the gradients, before clipping."""
    is_skipped: bool
    keys: list[str]
    """The clips of this process."""


def train(
    settings: TrainSettings,
    *,
    is_dry_run: bool = False,
    is_quiet: bool = False,
    say: Callable[[str], None] | None = None,
) -> Outcome:
    """Train as the settings say; resume from the last whole checkpoint if there is one.

    Args:
        is_dry_run: stop before the first step, having reported what would be done; nothing is written.
        is_quiet: show no bar and no lines of steps.
        say: prints a sentence; `print` unless given.

    Raises:
        ConfigError: invalid settings, or settings that this machine cannot serve.
        FolderInUseError: another process trains in the same output folder.
        StateError: the output folder is full or cannot be written, and the last checkpoint stays usable; or
            none of its checkpoints is whole.
        TrainingError: too many losses in a row were not finite.
    """
    with StopRequest() as stop, ExitStack() as held:
        accelerator = make_accelerator(settings)
        say = _silent if not accelerator.is_main_process else _print if say is None else say
        if accelerator.is_main_process and not is_dry_run:
            check_folder(settings.output_dir)
            held.enter_context(locked_folder(settings.output_dir, work="a training", say=say))
        run = set_up(settings, accelerator, say=say, is_dry_run=is_dry_run)
        if is_dry_run:
            return Outcome(run.progress.step, None)
        log = _open_log(run, is_quiet=is_quiet) if run.is_main else None
        try:
            stopped_by = _steps(run, log, stop)
        finally:
            if log is not None:
                log.close()
        if stopped_by is not None:
            run.say(
                f"stopped by {stopped_by} after step {run.progress.step}, which is saved; rerun the command "
                "to resume"
            )
            accelerator.end_training()
            return Outcome(run.progress.step, None, stopped_by)
        folder = settings.output_dir / FINAL
        with finished(run, is_exact=True) as task:
            if task is not None and run.is_main:
                export(task, folder)
        accelerator.wait_for_everyone()
        run.say(f"done: {folder}")
        accelerator.end_training()
        return Outcome(run.progress.step, folder)


def _steps(run: TrainingRun, log: TrainingLog | None, stop: StopRequest) -> str | None:
    """All steps that are left; the name of the signal that ended them before the last."""
    settings, progress = run.settings, run.progress
    if is_pending(run):
        assess(run, log)
    batches = run.batches()
    while progress.step < settings.max_steps:
        step, is_asked = one_step(run, batches, is_asked_to_stop=stop.name is not None)
        is_last = progress.step == settings.max_steps
        if log is not None:
            log.write(progress.step, _record(run, step))
        _stop_if_hopeless(run, step)
        is_validated = is_due(settings, progress.step)
        if is_last or is_asked or is_validated or progress.step % settings.checkpoints.every == 0:
            save(run)
        # Whoever asked to stop may not wait; the next start makes the validation that is due.
        if is_validated and (is_last or not is_asked):
            assess(run, log)
        if log is not None:
            log.pause()
        if is_asked and not is_last:
            return stop.name or "a signal to another process"
    return None


def one_step(
    run: TrainingRun, batches: Iterator[list[Sample]], *, is_asked_to_stop: bool = False
) -> tuple[StepResult, bool]:
    """Make a step and count it.

    Returns:
        what it gave, and whether any process was asked to stop.
    """
    settings, accelerator, progress = run.settings, run.accelerator, run.progress
    # Whatever else draws random numbers (dropout in a layer) does it alike after a resume.
    torch.manual_seed(seed_of(settings.seed, progress.step, f"process {accelerator.process_index}"))
    rate = learning_rate(settings, progress.step)
    for group in run.optimiser.param_groups:
        group["lr"] = rate
    losses: list[Tensor] = []
    terms: list[dict[str, Tensor]] = []
    keys: list[str] = []
    for number in range(settings.accumulate):
        samples = next(batches)
        keys += [sample.key for sample in samples]
        loss, own_terms = _one_pass(run, samples, number)
        losses.append(loss)
        terms.append(own_terms)
    names = sorted(terms[0])
    summary = [torch.stack(losses).mean().item(), float(is_asked_to_stop)]
    summary += [torch.stack([own[name] for own in terms]).float().mean().item() for name in names]
    mean_loss, asked, *mean_terms = averages(summary, accelerator)
    norm, is_skipped = _apply(run, mean_loss)
    progress.step += 1
    progress.skipped += is_skipped
    progress.skipped_in_row = progress.skipped_in_row + 1 if is_skipped else 0
    if not is_skipped:
        _follow(run)
    return StepResult(mean_loss, dict(zip(names, mean_terms)), norm, is_skipped, keys), asked > 0


def _one_pass(run: TrainingRun, samples: list[Sample], number: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of one part of this process's share."""
    settings, accelerator = run.settings, run.accelerator
    places = own_numbers(
        number,
        batch_size=settings.batch_size,
        accumulate=settings.accumulate,
        rank=accelerator.process_index,
        num_ranks=accelerator.num_processes,
    )
    references = settings.data.references
    drawn = [
        run.task.draw(sample, generator_of(settings.seed, run.progress.step, references * place + window))
        for sample, place in zip(samples, places)
        for window in range(references)
    ]
    draws = {name: torch.stack([own[name] for own in drawn]).to(accelerator.device) for name in drawn[0]}
    with torch.no_grad():
        clips = collate(samples).to(accelerator.device)
        batch = as_float(run.task.encode(clips, references=references))
    with accelerator.accumulate(run.model):
        loss, terms = run.model(batch, draws)
        # DeepSpeed steps within `backward`, so that what is not finite must not get there.
        if not is_deepspeed(accelerator) or math.isfinite(averages([loss.item()], accelerator)[0]):
            accelerator.backward(loss)
    return loss.detach(), terms


def _apply(run: TrainingRun, loss: float) -> tuple[float, bool]:
    """Clip and step, unless loss or gradients are not finite; returns the gradients' norm and if it was
    skipped."""
    accelerator, optimiser = run.accelerator, run.optimiser
    clip = run.settings.clip_norm
    norm = accelerator.clip_grad_norm_(run.parameters.values(), math.inf if clip is None else clip)
    if norm is None:  # DeepSpeed knows none before its first step
        norm = 0.0
    norm = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
    is_finite = math.isfinite(loss) and math.isfinite(norm)
    if is_finite or accelerator.scaler is not None:
        optimiser.step()  # with a scaler: skips by itself, and then scales less
    optimiser.zero_grad()
    if accelerator.scaler is not None and math.isfinite(loss) and accelerator.scaler.get_scale() >= 1:
        return norm, False  # a scale that was too large, which is on its way down
    return norm, not is_finite


@torch.no_grad()
def _follow(run: TrainingRun) -> None:
    """Let the average follow the weights; at first faster than `ema_decay`, so that it forgets the start."""
    if run.average is None or run.settings.ema_decay is None:
        return
    decay = min(run.settings.ema_decay, run.progress.step / (run.progress.step + 9))
    for name, parameter in run.parameters.items():
        local(run.average[name]).lerp_(local(parameter.detach()).float(), 1 - decay)


def _record(run: TrainingRun, step: StepResult) -> dict[str, Any]:
    """A line of the log. JSON has no NaN: what is not finite is null."""
    progress, settings = run.progress, run.settings
    position = (progress.step - 1) * settings.batch_size
    record: dict[str, Any] = {
        "loss": _finite(step.loss),
        "terms": {name: _finite(value) for name, value in step.terms.items()},
        "lr": learning_rate(settings, progress.step - 1),
        "grad_norm": _finite(step.norm),
        "epoch": position // len(run.dataset),
        "skipped": progress.skipped,
    }
    if step.is_skipped:
        record["skipped_clips"] = step.keys
    return record


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _stop_if_hopeless(run: TrainingRun, step: StepResult) -> None:
    progress = run.progress
    if progress.skipped_in_row < run.settings.max_skipped:
        return
    keys = step.keys
    if run.accelerator.num_processes > 1:
        everyone: list[Any] = [None] * run.accelerator.num_processes
        torch.distributed.all_gather_object(everyone, keys)
        keys = [key for part in everyone for key in part]
    found = checkpoints(run.settings.output_dir)
    raise TrainingError(
        f"step {progress.step}: loss {step.loss:g} and gradients' norm {step.norm:g}; not finite for "
        f"{progress.skipped_in_row} steps in a row. In the last one's batch: {'; '.join(keys)}. "
        f"The last checkpoint is {found[-1].name if found else 'none'}; look at these clips, lower "
        "optimiser.learning_rate, or use precision: fp32"
    )


def _open_log(run: TrainingRun, *, is_quiet: bool) -> TrainingLog:
    settings = run.settings
    return TrainingLog(
        settings.output_dir,
        step=run.progress.step,
        max_steps=settings.max_steps,
        batch_size=settings.batch_size,
        log_every=settings.log_every,
        tensorboard=settings.tensorboard,
        say=run.say,
        is_quiet=is_quiet,
    )


def _print(line: str) -> None:
    print(line, flush=True)


def _silent(line: str) -> None:
    """Processes other than the main one print nothing."""
