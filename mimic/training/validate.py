"""Validate a model: generate clips that it is not trained on, and compare them with the truth.

Legend: F frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from mimic.data.batch import Sample, collate
from mimic.data.transforms import as_pixels, frames_to_uint8
from mimic.families.task import TrainingTask
from mimic.metrics.identity import FaceModel
from mimic.metrics.image import EQUAL_PSNR, psnr, ssim
from mimic.training.policy import as_float
from mimic.training.settings import REGION_OF_FIGURE
from mimic.video import VideoWriter
from pose import PoseSequence

Pictures = NDArray[np.uint8]
GAP = 2  # white pixels between the pictures of a grid


class ValidationError(RuntimeError):
    """A clip could not be generated; the message has the reason of each process that failed."""


def show_clip(sample: Sample, generated: torch.Tensor) -> Pictures:
    """Reference, pose, truth and generated side by side: uint8 ``F x H x (4 W and gaps) x 3``.

    Args:
        sample: of F frames.
        generated: ``F x 3 x H x W`` in [0, 1].
    """
    num_frames = len(sample.frames)
    columns = [
        as_pixels(sample.reference)[None].expand(num_frames, -1, -1, -1) / 2 + 0.5,
        as_pixels(sample.pose_maps[1:]) / 2 + 0.5,
        as_pixels(sample.frames) / 2 + 0.5,
        generated,
    ]
    pictures = [frames_to_uint8(column) for column in columns]
    gap = np.full((num_frames, pictures[0].shape[1], GAP, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (picture, gap)]
    return np.concatenate(parts[:-1], axis=2)


def measure(sample: Sample, generated: torch.Tensor) -> dict[str, float]:
    """PSNR (dB) and SSIM over the frames, and PSNR in the regions of hands and faces where there are any.

    Args:
        sample, generated: as of `show_clip`.
    """
    truth, found = frames_to_uint8(as_pixels(sample.frames) / 2 + 0.5), frames_to_uint8(generated)
    figures = {
        "psnr": min(psnr(found, truth), EQUAL_PSNR),
        "ssim": float(np.mean([ssim(picture, other) for picture, other in zip(found, truth)])),
    }
    for figure, region in REGION_OF_FIGURE.items():
        if region not in sample.masks:
            continue
        mask = functional.interpolate(sample.masks[region][1:], size=truth.shape[1:3], mode="nearest")
        is_inside = (mask[:, 0] > 0).numpy()  # F x H x W
        if is_inside.any():
            figures[figure] = min(psnr(found, truth, is_inside), EQUAL_PSNR)
    return figures


@dataclass(frozen=True)
class Faces:
    """Compares the faces of generated and true frames, at the places that the poses say."""

    model: FaceModel
    poses: Sequence[PoseSequence]
    """Of each validation clip: the reference's, then the frames'."""

    def measure(self, number: int, sample: Sample, generated: torch.Tensor) -> dict[str, float]:
        """Return ``identity`` of clip `number`; nothing where no frame shows a face.

        Args:
            number: of the clip.
            sample, generated: as of `show_clip`.
        """
        pair = (frames_to_uint8(generated), frames_to_uint8(as_pixels(sample.frames) / 2 + 0.5))
        poses, likeness = self.poses[number], []
        for frame, pictures in enumerate(zip(*pair, strict=True), start=1):
            points, scores = poses.points[frame, 0], poses.scores[frame, 0]
            one, other = (self.model.embed(picture, points, scores) for picture in pictures)
            if one is not None and other is not None:
                likeness.append(float(one @ other))
        return {"identity": float(np.mean(likeness))} if likeness else {}


@torch.no_grad()
def losses_by_level(task: TrainingTask, sample: Sample, *, seed: int) -> dict[str, float]:
    """The training loss of a sample at the family's fixed noise levels, always with the same noise."""
    levels = task.noise_levels()
    if not levels:
        return {}
    device = next(task.model.parameters()).device
    batch = as_float(task.encode(collate([sample]).to(device)))
    losses = {}
    for name, fixed in levels.items():
        drawn = task.draw(sample, torch.Generator().manual_seed(seed)) | fixed
        draws = {key: value.to(device)[None] for key, value in drawn.items()}
        losses[f"loss_{name}"] = float(task.model(batch, draws).total)
    return losses


def means(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each figure over the clips that have it."""
    names = dict.fromkeys(name for own in figures for name in own)
    return {name: float(np.mean([own[name] for own in figures if name in own])) for name in names}


def write_grid(path: Path, clips: Sequence[Pictures], *, fps: float) -> Path:
    """A video with one clip below the other; narrower ones end in white.

    Raises:
        OSError: it cannot be written.
    """
    width = max(clip.shape[2] for clip in clips)
    gap = np.full((len(clips[0]), GAP, width, 3), 255, np.uint8)
    wide = [
        np.pad(clip, ((0, 0), (0, 0), (0, width - clip.shape[2]), (0, 0)), constant_values=255)
        for clip in clips
    ]
    rows = [part for clip in wide for part in (clip, gap)][:-1]
    video = np.concatenate(rows, axis=1)
    with VideoWriter(path, height=video.shape[1], width=video.shape[2], fps=fps) as writer:
        for frame in video:
            writer.write(np.ascontiguousarray(frame))
    return path


def validate(
    task: TrainingTask,
    samples: Sequence[Sample],
    *,
    seed: int,
    path: Path,
    fps: float,
    accelerator: Any = None,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    faces: Faces | None = None,
) -> dict[str, float]:
    """Generate each sample, write the grid to `path`, return the mean figures: those of `measure`, and the
    loss at fixed noise levels with fixed noise (`loss_…`).

    Args:
        samples: the same each time.
        seed: of the noise; clip number i begins with `seed + i`.
        path: of the video.
        fps: of the video.
        accelerator: its processes divide the clips among them (all have to call this); None: this process
            alone generates all.
        autocast: context in which the losses are computed.
        faces: compares faces; None: they are not compared.

    Raises:
        ValidationError: in all processes, where one of them could not generate a clip.
        OSError: the video cannot be written; in the main process only.
    """
    rank, num_ranks = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    own, reason = _generated(task, samples, range(rank, len(samples), num_ranks), seed, autocast, faces)
    parts, reasons = [own], [reason]
    if num_ranks > 1:
        everyone: list[Any] = [None] * num_ranks
        torch.distributed.all_gather_object(everyone, (own, reason))
        parts, reasons = [part for part, _ in everyone], [why for _, why in everyone]
    failed = list(dict.fromkeys(why for why in reasons if why is not None))
    if failed:
        raise ValidationError("; ".join(failed))
    gathered = {number: clip for part in parts for number, clip in part.items()}
    clips = [gathered[number] for number in range(len(samples))]
    if rank == 0:
        write_grid(path, [picture for _, picture in clips], fps=fps)
    return means([figures for figures, _ in clips])


def _generated(
    task: TrainingTask,
    samples: Sequence[Sample],
    numbers: Iterable[int],
    seed: int,
    autocast: Callable[[], AbstractContextManager[Any]],
    faces: Faces | None,
) -> tuple[dict[int, tuple[dict[str, float], Pictures]], str | None]:
    """Figures and pictures of each clip by its number; or none and the reason why one could not be made, for
    the other processes, which would wait for this one."""
    own = {}
    try:
        for number in numbers:
            generated = task.generate(samples[number], seed=seed + number).float().cpu()
            figures = measure(samples[number], generated)
            if faces is not None:
                figures |= faces.measure(number, samples[number], generated)
            with autocast():
                figures |= losses_by_level(task, samples[number], seed=seed + number)
            own[number] = (figures, show_clip(samples[number], generated))
    except Exception as error:  # out of memory is as good a reason as any
        return {}, told(error)
    return own, None


def told(error: Exception) -> str:
    """An error as one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
