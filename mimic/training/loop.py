"""How does a training go? Step after step, with logs, validation and checkpoints, until it is told to stop.

The order of a step: its clips → random draws → encoding → the model's loss → gradients → weights → average.
Everything random is a function of (seed, step, place in the batch), so that a training that was killed and
goes on from its last checkpoint ends in the same bytes as one that was never disturbed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mimic.data.batch import Sample, collate
from mimic.training.engine import averages, is_deepspeed, local
from mimic.training.export import FINAL, export, finished, is_shared_out
from mimic.training.logs import TrainingLog
from mimic.training.order import generator_of, own_numbers, seed_of
from mimic.training.saved import AVERAGE, OPTIMISER, WEIGHTS, gather, optimiser_by_name, save_engine
from mimic.training.settings import TrainSettings, learning_rate
from mimic.training.setup import TrainingRun, set_up
from mimic.training.signals import StopRequest
from mimic.training.state import checkpoints, save_state
from mimic.training.validate import validate


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
    """Train as the settings say; go on from the last checkpoint if there is one.

    Args:
        is_dry_run: stop before the first step, having told what would be done; nothing is written.
        is_quiet: show no bar and no lines of steps.
        say: prints a sentence; `print` unless given.

    Raises:
        ConfigError: settings that cannot be.
        StateError: the output folder is full or cannot be written; the last checkpoint stays usable.
        TrainingError: too many losses in a row were not finite.
    """
    with StopRequest() as stop:
        run = set_up(settings, say=_print if say is None else say, is_dry_run=is_dry_run)
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
                f"stopped by {stopped_by} after step {run.progress.step}, which is saved; the same command "
                "goes on from there"
            )
            run.accelerator.end_training()
            return Outcome(run.progress.step, None, stopped_by)
        folder = settings.output_dir / FINAL
        with finished(run) as task:
            if task is not None and run.is_main:
                export(task, folder)
        run.accelerator.wait_for_everyone()
        run.say(f"done: {folder}")
        run.accelerator.end_training()
        return Outcome(run.progress.step, folder)


def _steps(run: TrainingRun, log: TrainingLog | None, stop: StopRequest) -> str | None:
    """All steps that are left; the name of the signal that ended them before the last."""
    settings, progress = run.settings, run.progress
    batches = iter(run.loader())
    while progress.step < settings.max_steps:
        step, is_asked = one_step(run, batches, is_asked_to_stop=stop.name is not None)
        is_last = progress.step == settings.max_steps
        record = _record(run, step)
        if settings.validation.every and (progress.step % settings.validation.every == 0 or is_last):
            record["validation"] = _validate(run)
        if log is not None:
            log.write(progress.step, record)
        _stop_if_hopeless(run, step)
        is_best = progress.best.get("step") == progress.step and settings.checkpoints.keep_best
        if is_last or is_asked or is_best or progress.step % settings.checkpoints.every == 0:
            save(run)
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
    drawn = [
        run.task.draw(sample, generator_of(settings.seed, run.progress.step, place))
        for sample, place in zip(samples, places)
    ]
    draws = {name: torch.stack([own[name] for own in drawn]).to(accelerator.device) for name in drawn[0]}
    with torch.no_grad():
        batch = run.task.encode(collate(samples).to(accelerator.device))
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


def _validate(run: TrainingRun) -> dict[str, float]:
    settings, progress = run.settings.validation, run.progress
    path = run.settings.output_dir / "validation" / f"step-{progress.step:06d}.mp4"
    figures: dict[str, float] = {}
    with finished(run) as task:
        if task is not None:
            figures = validate(
                task,
                run.validation,
                seed=settings.seed,
                path=path,
                fps=settings.fps,
                accelerator=None if is_shared_out(run) else run.accelerator,
            )
    if run.accelerator.num_processes > 1:
        shared = [figures]
        torch.distributed.broadcast_object_list(shared)
        figures = shared[0]
    value = figures.get(settings.best_by)
    if value is not None and value > progress.best.get("value", -math.inf):
        progress.best = {"step": progress.step, "value": value}
    text = ", ".join(f"{name} {number:.4g}" for name, number in figures.items())
    run.say(f"validation after step {progress.step}: {text} ({path})")
    return figures


def save(run: TrainingRun) -> None:
    """Write a checkpoint of the step at hand, if there is none yet. All processes have to call this.

    Raises:
        StateError: it could not be written.
    """
    progress, settings, accelerator = run.progress, run.settings, run.accelerator
    if progress.saved == progress.step:
        return
    tensors = {WEIGHTS: gather(run.parameters, is_kept=run.is_main)}
    if run.average is not None:
        tensors[AVERAGE] = gather(run.average, is_kept=run.is_main)
    engine = save_engine(accelerator, settings.output_dir, progress.step)
    if engine is None:
        state = optimiser_by_name(run.optimiser.optimizer, run.parameters)
        tensors[OPTIMISER] = gather(state, is_kept=run.is_main)
    progress.saved = progress.step
    if run.is_main:
        is_best_kept = settings.checkpoints.keep_best and progress.best
        save_state(
            settings.output_dir,
            progress.step,
            tensors=tensors,
            facts={
                "family": settings.family,
                "progress": asdict(progress),
                "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else None,
                "processes": accelerator.num_processes,
                "settings": settings.model_dump(mode="json"),
            },
            keep=settings.checkpoints.keep,
            also_keep=[int(progress.best["step"])] if is_best_kept else [],
            add=None if engine is None else lambda folder: _move(engine, folder / "engine"),
        )
    accelerator.wait_for_everyone()


def _move(folder: Path, to: Path) -> None:
    folder.rename(to)


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
