"""What of a running training goes into a checkpoint, and from which one does a training resume?

The newest checkpoint that is whole is resumed from; a damaged one is set aside and reported. A checkpoint of
which any part is missing is never resumed from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mimic.config.loading import ConfigError
from mimic.training.engine import is_deepspeed
from mimic.training.run import TrainingProgress, TrainingRun
from mimic.training.saved import (
    AVERAGE,
    OPTIMISER,
    WEIGHTS,
    gather,
    optimiser_by_name,
    restore_engine,
    restore_optimiser,
    restore_tensors,
    save_engine,
)
from mimic.training.settings import ScheduleSettings, learning_rate, rate_of
from mimic.training.state import StateError, damage, load_state, save_state, set_aside, step_of
from mimic.training.trainable import is_among

FORMAT = 2
"""Of `facts.json`. 1, which had no number, was written after the validation of its step."""

Content = tuple[Path, dict[str, dict[str, Tensor]], dict[str, Any], TrainingProgress]


def save(run: TrainingRun) -> None:
    """Write a checkpoint of the current step, if there is none yet. All processes have to call this.

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
    run.facts = {
        "format": FORMAT,
        "step": progress.step,
        "groups": sorted(tensors),
        "family": settings.family,
        "progress": asdict(progress),
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else None,
        "processes": accelerator.num_processes,
        "settings": settings.model_dump(mode="json"),
        "validation": None,
    }
    if run.is_main:
        save_state(
            settings.output_dir,
            progress.step,
            tensors=tensors,
            facts=run.facts,
            keep=settings.checkpoints.keep,
            also_keep=best_steps(run),
            add=None if engine is None else lambda folder: _move(engine, folder / "engine"),
        )
    accelerator.wait_for_everyone()


def best_steps(run: TrainingRun) -> list[int]:
    """The steps whose checkpoints stay however old they are."""
    return (
        [int(run.progress.best["step"])] if run.settings.checkpoints.keep_best and run.progress.best else []
    )


def resume(run: TrainingRun, found: list[Path], *, is_dry_run: bool = False) -> None:
    """Put back what the newest whole one of some checkpoints holds. All processes have to call this.

    Args:
        found: oldest first; at least one.
        is_dry_run: leave damaged ones where they are.

    Raises:
        ConfigError: the checkpoint is of another training.
        StateError: none is whole, or processes do not see the same ones.
    """
    (checkpoint, tensors, facts, progress), damaged = newest_whole(found)
    _agree(run, checkpoint)
    if facts.get("family") != run.settings.family:
        raise ConfigError(
            f"{checkpoint} is of a training of {facts.get('family', 'another kind')}, not of "
            f"{run.settings.family}; give another output_dir"
        )
    if run.task.inert:
        # Earlier versions also trained parameters on which no result depends.
        tensors = {group: _effective(own, run.task.inert) for group, own in tensors.items()}
    restore_tensors(run.parameters, tensors[WEIGHTS], source=checkpoint)
    restore_tensors(run.average or {}, tensors.get(AVERAGE, {}), source=checkpoint)
    if is_deepspeed(run.accelerator):
        restore_engine(run.accelerator, checkpoint)
    else:
        if OPTIMISER not in tensors:
            raise ConfigError(
                f"{checkpoint} was made under DeepSpeed, whose optimiser only DeepSpeed resumes; launch as "
                "before, or give another output_dir"
            )
        restore_optimiser(run.optimiser.optimizer, run.parameters, tensors[OPTIMISER])
    if run.accelerator.scaler is not None and facts.get("scaler"):
        run.accelerator.scaler.load_state_dict(facts["scaler"])
    run.progress, run.facts = progress, facts
    run.progress.saved = progress.step
    for path, error in damaged:
        place = "" if is_dry_run or not run.is_main else f"; it is now {set_aside(path).name}"
        run.say(f"{error}{place}")
    run.say(f"going on from {checkpoint}")
    _report_changes(run, facts["settings"])


def _effective(tensors: Mapping[str, Tensor], inert: Sequence[str]) -> dict[str, Tensor]:
    """The tensors of parameters that have an effect, of weights, average or optimiser."""
    patterns = [place for pattern in inert for place in (pattern, f"*.{pattern}")]
    return {name: tensor for name, tensor in tensors.items() if not is_among(name, patterns)}


def newest_whole(found: list[Path]) -> tuple[Content, list[tuple[Path, StateError]]]:
    """The content of the newest whole one of some checkpoints, oldest first, and the damaged ones after it.

    Raises:
        ConfigError: a later version of mimic wrote it.
        StateError: none is whole.
    """
    damaged: list[tuple[Path, StateError]] = []
    for checkpoint in reversed(found):
        try:
            tensors, facts = load_state(checkpoint)
            progress = _checked(checkpoint, tensors, facts)
        except StateError as error:
            damaged.append((checkpoint, error))
            continue
        return (checkpoint, tensors, facts, progress), damaged
    raise StateError(
        f"{damaged[0][1]}, and no other one is whole ({len(damaged)} looked at); restore one from a copy, or "
        "give another output_dir to start anew"
    )


def _agree(run: TrainingRun, checkpoint: Path) -> None:
    if run.accelerator.num_processes == 1:
        return
    names: list[Any] = [None] * run.accelerator.num_processes
    torch.distributed.all_gather_object(names, checkpoint.name)
    if len(set(names)) > 1:
        raise StateError(
            f"processes would resume from different checkpoints ({', '.join(sorted(set(names)))}); "
            f"output_dir {run.settings.output_dir} has to be one that all machines see"
        )


def _checked(
    checkpoint: Path, tensors: Mapping[str, Mapping[str, Tensor]], facts: Mapping[str, Any]
) -> TrainingProgress:
    """The progress in a checkpoint's facts, if all that belongs to it is there.

    Raises:
        ConfigError: a later version of mimic wrote it.
        StateError: something is missing, or is not what it should be.
    """
    if type(facts.get("format", 1)) is int and facts.get("format", 1) > FORMAT:
        raise ConfigError(
            f"{checkpoint} was written by a later version of mimic (format {facts['format']}, this one knows "
            f"{FORMAT}); update mimic, or give another output_dir"
        )
    for name in ("progress", "settings"):
        if not isinstance(facts.get(name), dict):
            raise damage(checkpoint, f"{name} in facts.json is {_short(facts.get(name))}; expected an object")
    for name in ("scaler", "validation"):
        if facts.get(name) is not None and not isinstance(facts[name], dict):
            raise damage(checkpoint, f"{name} in facts.json is {_short(facts[name])}; expected an object")
    progress = _progress(checkpoint, facts["progress"])
    if progress.step != step_of(checkpoint):
        raise damage(checkpoint, f"it holds step {progress.step}, which is not what its name says")
    wanted = [WEIGHTS]
    if not (checkpoint / "engine").is_dir():
        wanted.append(OPTIMISER)
    if facts["settings"].get("ema_decay") is not None:
        wanted.append(AVERAGE)
    for group in wanted:
        if group not in tensors:
            raise damage(checkpoint, f"{group}.safetensors is missing")
    if OPTIMISER in tensors:
        _check_optimiser(checkpoint, tensors, has_stepped=progress.step > progress.skipped)
    return progress


def _progress(checkpoint: Path, content: Mapping[str, Any]) -> TrainingProgress:
    names = ("step", "skipped", "skipped_in_row", "saved")
    for name in names:
        if type(content.get(name)) is not int:
            raise damage(
                checkpoint, f"progress.{name} in facts.json is {_short(content.get(name))}; expected a number"
            )
    best = content.get("best")
    is_best = isinstance(best, dict) and (
        not best
        or (type(best.get("step")) is int and isinstance(best.get("value"), int | float) and len(best) == 2)
    )
    if not is_best:
        raise damage(checkpoint, f"progress.best in facts.json is {_short(best)}; expected step and value")
    return TrainingProgress(best=dict(content["best"]), **{name: content[name] for name in names})


def _check_optimiser(
    checkpoint: Path, tensors: Mapping[str, Mapping[str, Tensor]], *, has_stepped: bool
) -> None:
    weights, kinds = tensors[WEIGHTS], dict[str, set[str]]()
    for key, value in tensors[OPTIMISER].items():
        kind, _, name = key.partition(".")
        if name not in weights:
            raise damage(checkpoint, f"{OPTIMISER}.safetensors has {key}, and there is no such weight")
        if kind.startswith("exp_avg") and value.shape != weights[name].shape:
            raise damage(checkpoint, f"{key} in {OPTIMISER}.safetensors has another shape than its weight")
        kinds.setdefault(name, set()).add(kind)
    if has_stepped and not kinds:
        raise damage(checkpoint, f"{OPTIMISER}.safetensors is empty after {step_of(checkpoint)} steps")
    all_kinds = set().union(*kinds.values())
    for name, own in kinds.items():
        # The 8-bit optimiser keeps small tensors in another way.
        if "exp_avg" in all_kinds and own != all_kinds:
            lacking = sorted(all_kinds - own)[0]
            raise damage(checkpoint, f"{OPTIMISER}.safetensors lacks {lacking}.{name}")


def _report_changes(run: TrainingRun, before: Mapping[str, Any]) -> None:
    """Say what is not as it was when the checkpoint was made."""
    settings, step = run.settings, run.progress.step
    for line in differences(before, settings.model_dump(mode="json")):
        run.say(f"changed since then: {line}")
    if step > settings.max_steps:
        run.say(
            f"the checkpoint has {step} steps, more than max_steps: {settings.max_steps}; nothing is "
            f"trained, and the finished model is that of step {step}"
        )
    if step < settings.max_steps:
        was, planned, now = (_rate(before, step - 1), _rate(before, step), learning_rate(settings, step))
        if None not in (was, planned) and abs(planned - now) > 1e-6 * now:
            run.say(
                f"the learning rate jumps from {was:.3g} at step {step} to {now:.3g} at step {step + 1}: "
                "schedule, optimiser.learning_rate or max_steps have changed"
            )
    best_by = before.get("validation", {}).get("best_by", settings.validation.best_by)
    if run.progress.best and best_by != settings.validation.best_by:
        run.say(
            f"the best checkpoint so far was chosen by {best_by}; the choice by "
            f"{settings.validation.best_by} starts anew"
        )
        run.progress.best = {}


def _rate(settings: Mapping[str, Any], step: int) -> Any:
    """The learning rate by settings as a checkpoint holds them; None if it does not hold them all."""
    try:
        schedule = ScheduleSettings.model_validate(settings["schedule"])
        return rate_of(
            schedule, float(settings["optimiser"]["learning_rate"]), int(settings["max_steps"]), step
        )
    except (KeyError, TypeError, ValueError):
        return None


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Settings that have changed, as `key: old → new`, except where and how long a training runs, and
    settings that did not exist then."""
    lines = []
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += differences(old, new, f"{prefix}{name}.")
        elif old != new and name in before and prefix + name not in ("output_dir", "max_steps", "resume"):
            lines.append(f"{prefix}{name}: {old} → {new}")
    return lines


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."


def _move(folder: Path, to: Path) -> None:
    folder.rename(to)
