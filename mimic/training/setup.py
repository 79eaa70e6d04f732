"""How do settings become everything that a training needs, checked before anything heavy is done?"""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mimic.config.loading import ConfigError, build
from mimic.data.batch import Sample
from mimic.data.cache import EncodingCache, weights_digest
from mimic.data.dataset import ClipDataset, build_dataset
from mimic.data.hands import MOST_CLIPS, all_thresholds, hand_shares
from mimic.data.hands import describe as describe_hands
from mimic.data.settings import DataSettings
from mimic.data.transforms import as_pixels
from mimic.devices import missing_cuda
from mimic.families.task import TrainingTask
from mimic.files import local_path, remove_partial
from mimic.metrics.identity import FaceModel
from mimic.training.assess import VALIDATION
from mimic.training.checkpoints import resume
from mimic.training.engine import EngineModel, autocast_under_fsdp, divides_networks, make_optimiser
from mimic.training.levels import LossesByLevel
from mimic.training.policy import Policy, cast_frozen, resolve
from mimic.training.run import Say, TrainingProgress, TrainingRun, as_bytes, checkpoint_bytes, describe
from mimic.training.saving import Saving
from mimic.training.settings import REGION_OF_FIGURE, TrainSettings
from mimic.training.state import StateError, checkpoints
from mimic.training.tasks import make_task
from mimic.training.validate import Faces
from mimic.weights.strict import align_memory
from pose.types import PoseError

_WRAPPER = "_checkpoint_wrapped_module."  # what FSDP's own checkpointing puts into names


def set_up(
    settings: TrainSettings,
    accelerator: Any,
    *,
    say: Say,
    is_dry_run: bool = False,
    make: Callable[[TrainSettings], TrainingTask] = make_task,
) -> TrainingRun:
    """Everything up to the first step: model, data, and what the last checkpoint holds.

    Args:
        accelerator: of `make_accelerator`.
        say: prints a sentence; called in the main process only.
        is_dry_run: write nothing, not even the output folder.
        make: makes the task of the model that is trained further.

    Raises:
        ConfigError: invalid settings, or settings that this machine cannot serve.
        StateError: no checkpoint of the output folder can be read, or there is too little room for more.
    """
    if settings.cpu_threads is not None:
        torch.set_num_threads(settings.cpu_threads)
    found = checkpoints(settings.output_dir)
    if found and settings.resume == "never":
        raise ConfigError(
            f"{settings.output_dir} holds {found[-1].name}; set resume: auto to go on, or another output_dir"
        )
    if not is_dry_run and accelerator.is_main_process:
        _remove_partial(settings)
    # What the data lacks is reported before a large model is loaded.
    build_dataset(settings.data, split="train", seed=settings.seed)
    if settings.validation.every:
        build_dataset(settings.data, split="val", seed=settings.seed)
    with accelerator.main_process_first():
        task = make(settings)
    data = fit_data(settings.data, task)
    dataset = build_dataset(data, split="train", seed=settings.seed)
    # GradScaler's skipped steps are seen on the plain optimiser only.
    is_fused = accelerator.device.type == "cuda" and settings.precision != "fp16"
    optimiser = make_optimiser(_trained(task), settings, is_fused=is_fused)
    policy = resolve(settings, accelerator.device)
    task.encoded_together = policy.encoded_together
    is_cast = cast_frozen(task, policy, is_divided=divides_networks(accelerator))
    model: nn.Module = EngineModel(
        task.model,
        is_offloading=settings.memory.offload_activations,
        autocast=autocast_under_fsdp(accelerator),
    )
    align_memory(model)
    for module in task.frozen.values():
        module.to(accelerator.device)
        align_memory(module)
    if settings.memory.cache is not None and not is_dry_run:
        dataset = _encoded(dataset, task, settings.memory.cache, accelerator, say)
    whole_task = None
    if divides_networks(accelerator) and settings.validation.every and accelerator.is_main_process:
        whole_task = _whole_copy(task, policy)
    model, optimiser = accelerator.prepare(model, optimiser)
    model.train()
    parameters = _trained(task)
    average = None
    if settings.ema_decay is not None:
        average = {name: p.detach().clone().float() for name, p in parameters.items()}
    run = TrainingRun(
        settings=settings,
        accelerator=accelerator,
        task=task,
        model=model,
        optimiser=optimiser,
        parameters=parameters,
        average=average,
        dataset=dataset,
        validation=[],
        faces=None,
        progress=TrainingProgress(),
        policy=policy,
        is_cast=is_cast,
        say=say,
        saving=Saving(say),
        levels=LossesByLevel(task),
        whole_task=whole_task,
        make_task=make,
    )
    note = missing_cuda() if accelerator.device.type == "cpu" else None
    for line in [*([f"note: {note}"] if note else []), *describe(run), *_hands(dataset)]:
        say(line)
    if found:
        resume(run, found, is_dry_run=is_dry_run)
    elif not is_dry_run and accelerator.is_main_process:
        _check_room(run)
    if settings.validation.every and not is_dry_run:
        run.validation, run.faces = _validation_clips(settings, data)
    return run


def _whole_copy(task: TrainingTask, policy: Policy) -> TrainingTask:
    """Copy a task before its networks are sharded; networks that are never trained are not copied."""
    copied = copy.deepcopy(task, {id(module): module for module in task.frozen.values()})
    cast_frozen(copied, policy, is_divided=False)
    return copied


def _hands(dataset: ClipDataset) -> list[str]:
    """Say in how many frames of the training clips hands are masked; nothing where poses are rendered."""
    settings = dataset.settings
    if "hands" not in settings.regions:
        return []
    step = max(1, len(dataset.clips) // MOST_CLIPS)
    found = [dataset.source.poses(clip) for clip in dataset.clips[::step]]
    clips = [poses for poses in found if poses is not None]
    if not clips:
        return []
    shares = hand_shares(clips, all_thresholds(settings.hand_threshold))
    return [describe_hands(shares, settings.hand_threshold)]


def _validation_clips(settings: TrainSettings, data: DataSettings) -> tuple[list[Sample], Faces | None]:
    """The clips of every validation, and what compares their faces.

    Raises:
        ConfigError: the best checkpoint is chosen by hands or faces, and they show none; or the face model is
            no ONNX network.
    """
    clips = build_dataset(data, split="val", seed=settings.seed)
    found = [clips.with_poses((0, n)) for n in range(min(len(clips), settings.validation.num_clips))]
    chosen = [sample for sample, _ in found if isinstance(sample, Sample)]
    assert len(chosen) == len(found), "without a cache, samples have pictures"
    best_by = settings.validation.best_by
    region = REGION_OF_FIGURE.get(best_by)
    if region is not None and not any(bool((sample.masks[region][1:] > 0).any()) for sample in chosen):
        threshold = f"{region.removesuffix('s')}_threshold"
        raise ConfigError(
            f"validation.best_by is {best_by}, but no {region.removesuffix('s')} has a mask in the "
            f"{len(chosen)} validation clips (data.{threshold} is {getattr(data, threshold):g}); lower "
            f"data.{threshold}, raise validation.num_clips, or use best_by: psnr"
        )
    if settings.validation.face_model is None:
        return chosen, None
    try:
        model = FaceModel(local_path(settings.validation.face_model))
    except (OSError, PoseError) as error:
        raise ConfigError(f"validation.face_model: {error}") from error
    faces = Faces(model, [poses for _, poses in found])
    if best_by == "identity" and not any(_shows_face(faces, n, sample) for n, sample in enumerate(chosen)):
        raise ConfigError(
            f"validation.best_by is identity, but none of the {len(chosen)} validation clips shows a face; "
            "raise validation.num_clips, or use best_by: psnr"
        )
    return chosen, faces


def _shows_face(faces: Faces, number: int, sample: Sample) -> bool:
    return bool(faces.measure(number, sample, as_pixels(sample.frames) / 2 + 0.5))


def _encoded(
    dataset: ClipDataset, task: TrainingTask, folder: Path, accelerator: Any, say: Say
) -> ClipDataset:
    """The dataset with latents and embeddings of all its clips, made by all processes together."""
    cache = EncodingCache(folder, weights=weights_digest(task.frozen))
    num_written = cache.fill(
        dataset,
        task.encode_pictures,
        device=accelerator.device,
        rank=accelerator.process_index,
        num_ranks=accelerator.num_processes,
    )
    accelerator.wait_for_everyone()
    say(f"latents of all clips are in {folder}; {num_written} of this process's were made now")
    return dataset.with_cache(cache, keeps_reference=task.needs_reference)


def fit_data(settings: DataSettings, task: TrainingTask) -> DataSettings:
    """The data's settings with latents as small as the task's VAE makes them.

    Raises:
        ConfigError: they say otherwise, or the size is no multiple.
    """
    side = task.pipeline().pixels_per_latent
    if "latent_downscale" in settings.model_fields_set and settings.latent_downscale != side:
        raise ConfigError(
            f"data.latent_downscale is {settings.latent_downscale}, this model's VAE has {side}; leave it out"
        )
    content = settings.model_dump(exclude_unset=True) | {"latent_downscale": side}
    return build(DataSettings, content, "data")


def _trained(task: TrainingTask) -> dict[str, nn.Parameter]:
    return {
        name.replace(_WRAPPER, ""): parameter
        for name, parameter in task.model.named_parameters()
        if parameter.requires_grad
    }


def check_folder(folder: Path, *, needs_temporary: bool = True) -> None:
    """Make the output folder and write to it once.

    Args:
        folder: its path.
        needs_temporary: whether a folder for temporary files is needed, as by processes that load data.

    Raises:
        StateError: it cannot be written, or no folder for temporary files can.
    """
    try:
        if needs_temporary:
            tempfile.gettempdir()
    except FileNotFoundError as error:
        raise StateError(
            "no folder for temporary files can be written, which the processes that load data need; set "
            "TMPDIR to one that can, or num_workers=0"
        ) from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".{os.getpid()}.partial"
        trial.write_bytes(b"mimic")
        trial.unlink()
    except OSError as error:
        raise StateError(
            f"output_dir {folder} cannot be written: {error.strerror or error}; give another one"
        ) from error


def _remove_partial(settings: TrainSettings) -> None:
    """Remove what killed runs left half-written in the output folder, which nobody else uses now."""
    folder = settings.output_dir
    for place in (folder, folder / VALIDATION, *checkpoints(folder)):
        remove_partial(place)


def _check_room(run: TrainingRun) -> None:
    """All that will stay, and the one checkpoint more that is there before an old one goes."""
    settings = run.settings
    number = settings.checkpoints.keep + 1 + settings.checkpoints.keep_best * bool(settings.validation.every)
    needed = number * checkpoint_bytes(run)
    free = shutil.disk_usage(settings.output_dir).free
    if free < needed:
        raise StateError(
            f"output_dir {settings.output_dir} has {as_bytes(free)} free; {number} checkpoints need "
            f"{as_bytes(needed)}. Make room, or set checkpoints.keep lower"
        )
