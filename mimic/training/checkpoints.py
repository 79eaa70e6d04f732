"""What of a running training goes into a checkpoint, and from which one does a training resume?

The newest checkpoint that is whole is resumed from; a damaged one is set aside and reported. A checkpoint of
which any part is missing is never resumed from.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    optimiser_by_name,
    own_share,
    restore_engine,
    restore_optimiser,
    restore_tensors,
    save_engine,
)
from mimic.training.settings import ScheduleSettings, learning_rate, rate_of
from mimic.training.state import StateError, damage, load_facts, remove_old, set_aside, step_of
from mimic.training.stored import StoredTensors, stored_tensors
from mimic.training.trainable import is_among
from pose.text import one_line, shown

FORMAT = 3
"""Of checkpoints. 1, which had no number, was written after the validation of its step; up to 2, one process
wrote whole tensors."""

_LARGEST = 1e300  # whole numbers in JSON may be larger than any float
_SCALER = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")

Content = tuple[StoredTensors, dict[str, Any], TrainingProgress]


def save(run: TrainingRun) -> None:
    """Begin to write a checkpoint of the current step, if there is none yet. All processes have to call this.

    Returns when the tensors are copied; `run.saving.wait` waits until the checkpoint is whole.

    Raises:
        StateError: the one before could not be written.
    """
    progress, settings, accelerator = run.progress, run.settings, run.accelerator
    if progress.saved == progress.step:
        return
    groups: dict[str, Mapping[str, Tensor]] = {WEIGHTS: run.parameters}
    if run.average is not None:
        groups[AVERAGE] = run.average
    engine = save_engine(accelerator, settings.output_dir, progress.step)
    if engine is None:
        groups[OPTIMISER] = optimiser_by_name(run.optimiser.optimizer, run.parameters)
    progress.saved = progress.step
    run.facts = {
        "format": FORMAT,
        "step": progress.step,
        "groups": sorted(group for group, tensors in groups.items() if tensors),
        "tensors": {group: len(tensors) for group, tensors in groups.items() if tensors},
        "family": settings.family,
        "progress": asdict(progress),
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else None,
        "processes": accelerator.num_processes,
        "settings": settings.model_dump(mode="json"),
        "validation": None,
    }
    keep, also_keep = settings.checkpoints.keep, best_steps(run)
    run.saving.start(
        settings.output_dir / f"checkpoint-{progress.step}",
        own_share(
            groups, run.parameters, rank=accelerator.process_index, num_ranks=accelerator.num_processes
        ),
        facts=run.facts,
        add=None if engine is None else lambda folder: _move(engine, folder / "engine"),
        finished=lambda: remove_old(settings.output_dir, keep=keep, also_keep=also_keep),
    )


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
    (stored, facts, progress), damaged = newest_whole(found)
    checkpoint, processes = stored.checkpoint, run.saving.processes
    _agree(run, checkpoint)
    if facts.get("family") != run.settings.family:
        raise ConfigError(
            f"{checkpoint} is of a training of {one_line(facts.get('family', 'another kind'), 60)}, not of "
            f"{run.settings.family}; give another output_dir"
        )
    if run.task.inert:
        # Earlier versions also trained parameters on which no result depends.
        patterns = [place for pattern in run.task.inert for place in (pattern, f"*.{pattern}")]
        stored = stored.without(lambda name: is_among(name, patterns))
    restore_tensors(run.parameters, stored, WEIGHTS, processes=processes)
    restore_tensors(run.average or {}, stored, AVERAGE, processes=processes)
    if is_deepspeed(run.accelerator):
        restore_engine(run.accelerator, checkpoint)
    else:
        if (checkpoint / "engine").is_dir():
            raise ConfigError(
                f"{checkpoint} was made under DeepSpeed, whose optimiser only DeepSpeed resumes; launch as "
                "before, or give another output_dir"
            )
        if OPTIMISER in stored.groups:
            _check_same_optimiser(run, facts["settings"], checkpoint)
            restore_optimiser(run.optimiser.optimizer, run.parameters, stored, processes=processes)
    if run.accelerator.scaler is not None and facts.get("scaler"):
        run.accelerator.scaler.load_state_dict(facts["scaler"])
    run.progress, run.facts = progress, facts
    run.progress.saved = progress.step
    for path, error in damaged:
        run.say(f"{error}{'' if is_dry_run or not run.is_main else _set_aside(path)}")
    run.say(f"going on from {checkpoint}")
    _report_changes(run, facts["settings"])


def _set_aside(checkpoint: Path) -> str:
    """Rename a damaged checkpoint, and say its new name or why it has none."""
    try:
        return f"; it is now {set_aside(checkpoint).name}"
    except OSError as error:
        return f"; it could not be renamed ({error.strerror or error})"


def newest_whole(found: list[Path]) -> tuple[Content, list[tuple[Path, StateError]]]:
    """The content of the newest whole one of some checkpoints, oldest first, and the damaged ones after it.

    Raises:
        ConfigError: a later version of mimic wrote it.
        StateError: none is whole.
    """
    damaged: list[tuple[Path, StateError]] = []
    for checkpoint in reversed(found):
        try:
            facts = load_facts(checkpoint)
            stored = stored_tensors(checkpoint, facts)
            progress = _checked(stored, facts)
        except StateError as error:
            damaged.append((checkpoint, error))
            continue
        return (stored, facts, progress), damaged
    raise StateError(
        f"{damaged[0][1]}, and no other one is whole ({len(damaged)} looked at); restore one from a copy, or "
        "give another output_dir to start anew"
    )


def _check_same_optimiser(run: TrainingRun, before: Mapping[str, Any], checkpoint: Path) -> None:
    """Raise `ConfigError` if a checkpoint's moments are those of another optimiser."""
    of_before = before.get("optimiser")
    was = of_before.get("name") if isinstance(of_before, Mapping) else None
    now = run.settings.optimiser.name
    if was is not None and was != now:
        raise ConfigError(
            f"{checkpoint} was made with optimiser.name: {one_line(was, 60)}, whose state {now} cannot take; "
            "set it as it was, or give another output_dir"
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


def _checked(stored: StoredTensors, facts: Mapping[str, Any]) -> TrainingProgress:
    """The progress in a checkpoint's facts, if all that belongs to it is there.

    Raises:
        ConfigError: a later version of mimic wrote it.
        StateError: something is missing, or is not what it should be.
    """
    checkpoint = stored.checkpoint
    if type(facts.get("format", 1)) is not int:
        raise damage(checkpoint, f"format in facts.json is {shown(facts['format'])}; expected a number")
    if facts.get("format", 1) > FORMAT:
        raise ConfigError(
            f"{checkpoint} was written by a later version of mimic (format {shown(facts['format'])}, this "
            f"one knows {FORMAT}); update mimic, or give another output_dir"
        )
    for name in ("progress", "settings"):
        if not isinstance(facts.get(name), dict):
            raise damage(checkpoint, f"{name} in facts.json is {shown(facts.get(name))}; expected an object")
    for name in ("scaler", "validation", "tensors"):
        if facts.get(name) is not None and not isinstance(facts[name], dict):
            raise damage(checkpoint, f"{name} in facts.json is {shown(facts[name])}; expected an object")
    _check_scaler(checkpoint, facts.get("scaler") or {})
    attempts = (facts.get("validation") or {}).get("attempts", 0)
    if type(attempts) is not int:
        raise damage(checkpoint, f"validation.attempts in facts.json is {shown(attempts)}; not a number")
    validation = facts["settings"].get("validation", {})
    if not isinstance(validation, dict):
        raise damage(
            checkpoint, f"settings.validation in facts.json is {shown(validation)}; expected an object"
        )
    # Checkpoints of before have no numbers.
    for group, number in (facts.get("tensors") or {}).items():
        found = len(stored.groups.get(group, {}))
        if found != number:
            raise damage(checkpoint, f"{group}.safetensors has {found} tensors of {shown(number)}")
    progress = _progress(checkpoint, facts["progress"])
    if progress.step != step_of(checkpoint):
        raise damage(checkpoint, f"it holds step {progress.step}, which is not what its name says")
    if facts["step"] != progress.step:
        raise damage(
            checkpoint, f"step in facts.json is {shown(facts['step'])}, and progress.step {progress.step}"
        )
    wanted, has_stepped = [WEIGHTS], progress.step > progress.skipped
    # Before its first step, an optimiser has no state.
    if has_stepped and not (checkpoint / "engine").is_dir():
        wanted.append(OPTIMISER)
    if facts["settings"].get("ema_decay") is not None:
        wanted.append(AVERAGE)
    for group in wanted:
        if group not in stored.groups:
            raise damage(checkpoint, f"{group}.safetensors is missing")
    if OPTIMISER in stored.groups:
        _check_optimiser(stored, has_stepped=has_stepped)
    return progress


def _progress(checkpoint: Path, content: Mapping[str, Any]) -> TrainingProgress:
    names = ("step", "skipped", "skipped_in_row", "saved")
    for name in names:
        if type(content.get(name)) is not int:
            raise damage(
                checkpoint, f"progress.{name} in facts.json is {shown(content.get(name))}; expected a number"
            )
    if not 0 <= content["skipped_in_row"] <= content["skipped"] <= content["step"]:
        raise damage(
            checkpoint,
            f"progress.skipped in facts.json is {shown(content['skipped'])}, of these in a row "
            f"{shown(content['skipped_in_row'])}, of {shown(content['step'])} steps",
        )
    best = content.get("best")
    if not isinstance(best, dict) or not (best == {} or _is_best(best, content["step"])):
        raise damage(checkpoint, f"progress.best in facts.json is {shown(best)}; expected step and value")
    return TrainingProgress(best=dict(content["best"]), **{name: content[name] for name in names})


def _is_best(best: Mapping[str, Any], step: int) -> bool:
    """Whether facts of the best validation are those of a step up to this one."""
    own: Any = best.get("step")
    value: Any = best.get("value")
    is_step = type(own) is int and 0 <= own <= step
    return is_step and type(value) in (int, float) and abs(value) < _LARGEST and len(best) == 2


def _check_scaler(checkpoint: Path, content: Mapping[str, Any]) -> None:
    """Raise `StateError` unless facts are those of torch's `GradScaler`; a disabled one has none."""
    for name in _SCALER if content else ():
        value: Any = content.get(name)
        if type(value) not in (int, float) or not 0 <= value < _LARGEST:
            raise damage(
                checkpoint, f"scaler.{one_line(name)} in facts.json is {shown(value)}; expected a number"
            )


def _check_optimiser(stored: StoredTensors, *, has_stepped: bool) -> None:
    checkpoint, kinds = stored.checkpoint, dict[str, set[str]]()
    weights = stored.groups[WEIGHTS]
    for key, value in stored.groups[OPTIMISER].items():
        kind, _, name = key.partition(".")
        if name not in weights:
            raise damage(
                checkpoint, f"{OPTIMISER}.safetensors has {one_line(key)}, and there is no such weight"
            )
        if kind.startswith("exp_avg") and value.size != weights[name].size:
            raise damage(
                checkpoint, f"{one_line(key)} in {OPTIMISER}.safetensors has another shape than its weight"
            )
        kinds.setdefault(name, set()).add(kind)
    if has_stepped and not kinds:
        raise damage(checkpoint, f"{OPTIMISER}.safetensors is empty after {step_of(checkpoint)} steps")
    all_kinds = set().union(*kinds.values())
    for name, own in kinds.items():
        # The 8-bit optimiser keeps small tensors in another way.
        if "exp_avg" in all_kinds and own != all_kinds:
            lacking = sorted(all_kinds - own)[0]
            raise damage(checkpoint, f"{OPTIMISER}.safetensors lacks {one_line(f'{lacking}.{name}')}")


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
            f"the best checkpoint so far was chosen by {one_line(best_by, 60)}; the choice by "
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
    except (KeyError, TypeError, ValueError, ArithmeticError):
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
            lines.append(f"{one_line(prefix + name)}: {one_line(old)} → {one_line(new)}")
    return lines


def _move(folder: Path, to: Path) -> None:
    folder.rename(to)
