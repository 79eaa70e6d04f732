"""What happens in a training? Steps, logs, checkpoints and validations, until the last step or a signal.

The order of a step: its clips → random draws → encoding → the model's loss → gradients → weights → average.
Everything random is a function of (seed, step, place in the batch), so that a training that was killed and
resumes from its last checkpoint ends in the same bytes as one that was never disturbed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mimic.data.batch import AnySample, collate
from mimic.files import without_empty_folders
from mimic.locks import locked_folder
from mimic.training.assess import assess, assess_start, best_step_told, is_due, is_pending
from mimic.training.card import facts_of, model_card
from mimic.training.checkpoints import save
from mimic.training.engine import averages, check_gradients, is_deepspeed, local, make_accelerator
from mimic.training.export import FINAL, check_replaceable, export, finished
from mimic.training.logs import TrainingLog
from mimic.training.order import generator_of, own_numbers, seed_of
from mimic.training.policy import as_float
from mimic.training.report import REPORT_FILE, validations
from mimic.training.run import TrainingRun
from mimic.training.settings import TrainSettings, learning_rate
from mimic.training.setup import check_folder, set_up
from mimic.training.signals import StopRequest
from mimic.training.state import StateError, checkpoints
from mimic.training.trackers import Tracker
from mimic.training.workers import WorkerError


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
    waited: float = 0.0
    """Seconds spent waiting for clips, a mean over the processes."""
    hands: float | None = None
    """Share of the frames that have a hand mask; None without masks of hands."""
    levels: dict[str, float] = field(default_factory=dict)
    """Mean loss of the samples nearest to each of validation's noise levels, where there are any."""


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
            held.enter_context(without_empty_folders(settings.output_dir))
            check_folder(settings.output_dir, needs_temporary=settings.num_workers > 0)
            check_replaceable(settings.output_dir / FINAL)
            held.enter_context(locked_folder(settings.output_dir, work="a training", say=say))
        run = set_up(settings, accelerator, say=say, is_dry_run=is_dry_run)
        if is_dry_run:
            return Outcome(run.progress.step, None)
        log = _open_log(run, is_quiet=is_quiet) if run.is_main else None
        try:
            stopped_by = _steps(run, log, stop)
            run.saving.wait(is_needed=stopped_by is not None)
        finally:
            run.saving.close()
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
                facts = facts_of(settings, task, run.progress.step)
                validated = validations(settings.output_dir, last_step=run.progress.step)
                card = model_card(facts, settings, best=run.progress.best, validated=validated)
                export(task, folder, facts=facts, card=card)
        accelerator.wait_for_everyone()
        run.say(f"done: {folder}{best_step_told(run)}")
        if (report := settings.output_dir / REPORT_FILE).is_file():
            run.say(f"look at: {report}")
        accelerator.end_training()
        return Outcome(run.progress.step, folder)


def _steps(run: TrainingRun, log: TrainingLog | None, stop: StopRequest) -> str | None:
    """All steps that are left; the name of the signal that ended them before the last."""
    settings, progress = run.settings, run.progress
    if is_pending(run):
        assess(run, log)
    if progress.step == 0 and settings.validation.every and settings.validation.at_start:
        assess_start(run, log)
        if log is not None:
            log.pause()
    batches = run.batches()
    while progress.step < settings.max_steps:
        try:
            step, is_asked = one_step(run, batches, is_asked_to_stop=stop.name is not None)
        except StateError:
            raise
        except (OSError, ValueError, WorkerError):  # a clip that cannot be read, a dead worker
            _keep_steps(run)
            raise
        is_last = progress.step == settings.max_steps
        if log is not None:
            log.write(progress.step, _record(run, step), waited=step.waited)
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


def _keep_steps(run: TrainingRun) -> None:
    """Save the steps made so far, before an error of the data ends the training.

    Only where one process trains, since all would have to take part, and not with DeepSpeed, which may have
    part of a step in its buffers.
    """
    is_alone = run.accelerator.num_processes == 1 and not is_deepspeed(run.accelerator)
    if not is_alone or run.progress.step in (0, run.progress.saved):
        return
    with suppress(OSError):
        save(run)
        run.saving.wait()
        run.say(f"checkpoint-{run.progress.step} holds the steps made so far; rerun the command to resume")


def one_step(
    run: TrainingRun, batches: Iterator[list[AnySample]], *, is_asked_to_stop: bool = False
) -> tuple[StepResult, bool]:
    """Make a step and count it. The process waits for the device once, before the weights change.

    Returns:
        what it gave, and whether any process was asked to stop.

    Raises:
        StateError: a checkpoint could not be written meanwhile.
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
    waited, with_hands, by_level = 0.0, list[float](), list[Tensor]()
    for number in range(settings.accumulate):
        begin = time.monotonic()
        samples = next(batches)
        waited += time.monotonic() - begin
        keys += [sample.key for sample in samples]
        masks = [sample.masks["hands"][1:].numpy() for sample in samples if "hands" in sample.masks]
        with_hands += [float((mask.max(axis=(1, 2, 3)) > 0).mean()) for mask in masks]
        loss, own_terms, sums = _one_pass(run, samples, number)
        losses.append(loss)
        terms.append(own_terms)
        by_level.append(sums)
    if not run.has_checked_gradients and not is_deepspeed(accelerator):
        check_gradients(run.parameters)
        run.has_checked_gradients = True
    names = sorted(terms[0])
    norm = _clipped(run)
    summary = [torch.stack(losses).mean(), norm, float(is_asked_to_stop), waited]
    summary.append(float(run.saving.has_failed))
    summary.append(sum(with_hands) / max(len(with_hands), 1))
    summary += [torch.stack([own[name] for own in terms]).float().mean() for name in names]
    summary += torch.stack(by_level).sum(0).flatten().unbind()
    mean_loss, mean_norm, asked, mean_waited, failed, hands, *rest = averages(summary, accelerator)
    mean_terms, level_sums = rest[: len(names)], rest[len(names) :]
    if failed:
        run.saving.wait(is_needed=False)  # raises in all processes
    is_skipped = _apply(run, mean_loss, mean_norm)
    progress.step += 1
    progress.skipped += is_skipped
    progress.skipped_in_row = progress.skipped_in_row + 1 if is_skipped else 0
    if not is_skipped:
        _follow(run)
    result = StepResult(
        mean_loss,
        dict(zip(names, mean_terms)),
        mean_norm,
        is_skipped,
        keys,
        mean_waited,
        hands if with_hands else None,
        run.levels.means(level_sums),
    )
    return result, asked > 0


def _one_pass(
    run: TrainingRun, samples: list[AnySample], number: int
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Loss, its terms and its sums by noise level, and gradients, of one part of this process's share."""
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
    draws = {name: _sent(run, torch.stack([own[name] for own in drawn])) for name in drawn[0]}
    arrived = [sample.to(accelerator.device, non_blocking=run.is_pinning) for sample in samples]
    with torch.no_grad():
        batch = as_float(run.task.encode(collate(arrived), references=references))
    with accelerator.accumulate(run.model):
        loss, terms, by_sample = run.model(batch, draws)
        # DeepSpeed steps within `backward`, so that what is not finite must not get there.
        if not is_deepspeed(accelerator) or math.isfinite(averages([loss.detach()], accelerator)[0]):
            accelerator.backward(loss)
    return loss.detach(), terms, run.levels.sums(draws, by_sample)


def _sent(run: TrainingRun, tensor: Tensor) -> Tensor:
    """The tensor on the device; the process does not wait for the transfer."""
    if run.is_pinning:
        tensor = tensor.pin_memory()
    return tensor.to(run.accelerator.device, non_blocking=run.is_pinning)


def _clipped(run: TrainingRun) -> Tensor | float:
    """Scale the gradients down to `clip_norm`; their norm before."""
    clip = run.settings.clip_norm
    parameters = run.parameters.values()
    norm = run.accelerator.clip_grad_norm_(parameters, math.inf if clip is None else clip)
    if norm is None:  # DeepSpeed knows none before its first step
        return 0.0
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm


def _apply(run: TrainingRun, loss: float, norm: float) -> bool:
    """Step, unless loss or gradients are not finite; returns whether the step was skipped."""
    accelerator, optimiser = run.accelerator, run.optimiser
    is_finite = math.isfinite(loss) and math.isfinite(norm)
    if is_finite or accelerator.scaler is not None:
        optimiser.step()  # with a scaler: skips by itself, and then scales less
    optimiser.zero_grad()
    if accelerator.scaler is not None and math.isfinite(loss) and accelerator.scaler.get_scale() >= 1:
        return False  # a scale that was too large, which is on its way down
    return not is_finite


@torch.no_grad()
def _follow(run: TrainingRun) -> None:
    """Let the average follow the weights; at first faster than `ema_decay`, so that it forgets the start."""
    if run.average is None or run.settings.ema_decay is None:
        return
    decay = min(run.settings.ema_decay, run.progress.step / (run.progress.step + 9))
    averaged = [local(run.average[name]) for name in run.parameters]
    trained = [local(parameter.detach()).float() for parameter in run.parameters.values()]
    torch._foreach_lerp_(averaged, trained, 1 - decay)


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
    if step.levels:
        record["levels"] = {name: _finite(value) for name, value in step.levels.items()}
    if step.hands is not None:
        record["frames_with_hands"] = round(step.hands, 4)
    if run.accelerator.device.type == "cuda":
        record["memory_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 3)
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
    run.saving.close()
    found = checkpoints(run.settings.output_dir)
    raise TrainingError(
        f"step {progress.step}: loss {step.loss:g} and gradients' norm {step.norm:g}; not finite for "
        f"{progress.skipped_in_row} steps in a row. In the last one's batch: {'; '.join(keys)}. "
        f"The last checkpoint is {found[-1].name if found else 'none'}; look at these clips, lower "
        "optimiser.learning_rate, or use precision: fp32"
    )


def _open_log(run: TrainingRun, *, is_quiet: bool) -> TrainingLog:
    settings, tracker = run.settings, None
    if settings.tracker is not None:
        tracker = Tracker(run.accelerator, settings.output_dir.name, settings.model_dump(mode="json"))
    return TrainingLog(
        settings.output_dir,
        step=run.progress.step,
        max_steps=settings.max_steps,
        batch_size=settings.batch_size,
        num_frames=settings.data.num_frames,
        log_every=settings.log_every,
        tensorboard=settings.tensorboard,
        say=run.say,
        is_quiet=is_quiet,
        tracker=tracker,
    )


def _print(line: str) -> None:
    print(line, flush=True)


def _silent(line: str) -> None:
    """Processes other than the main one print nothing."""
