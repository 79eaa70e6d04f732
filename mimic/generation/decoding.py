"""Latents to frames, chunk by chunk: those that an interrupted run has left, then those that remain.

Legend: F frames, f frames of a chunk, H height, W width. Frames are RGB uint8.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mimic.config import CaseSettings
from mimic.data.transforms import Compatibility, frames_to_uint8
from mimic.families.base import AnimationPipeline
from mimic.families.plan import Plan
from mimic.generation.reference import compatibility_of
from mimic.generation.unfinished import KeptFrames
from mimic.models.vae import chunk_spans

ItemT = TypeVar("ItemT")


def decoded_frames(
    pipeline: AnimationPipeline[Any, Any],
    plan: Plan[Any],
    latents: Tensor,
    settings: CaseSettings,
    kept: KeptFrames | None = None,
) -> Iterator[NDArray[np.uint8]]:
    """Decode and yield the frames, uint8 ``H x W x 3``, without the reference frame.

    The reference frame is decoded as well, because temporal decoders mix the frames of a chunk and the chunks
    have to be those of the released script. Frames of an interrupted run are read instead of decoded.
    """
    num_done = 0
    if kept is not None:
        num_done = kept.num_chunks
        yield from kept.read()
    if pipeline.ranks is not None:
        num_done = pipeline.ranks.from_first(num_done)
    is_first = pipeline.shows_reference_first and num_done == 0
    for chunk in _decoded_chunks(pipeline, plan, latents, num_done, compatibility_of(pipeline, settings)):
        frames = chunk[1 if is_first else 0 :]
        is_first = False
        if kept is not None:
            kept.keep(frames)
        yield from frames


def _decoded_chunks(
    pipeline: AnimationPipeline[Any, Any],
    plan: Plan[Any],
    latents: Tensor,
    num_done: int,
    compatibility: Compatibility,
) -> Iterator[NDArray[np.uint8]]:
    """Decode and yield the chunks from `num_done` on, uint8 ``f x H x W x 3``, by one process or several."""
    spans = chunk_spans(pipeline.vae, latents.shape[1], plan.decode_chunk_size, plan.decode_overlap)[
        num_done:
    ]
    if not spans:
        return

    def decoded(first_chunk: int) -> Iterator[Tensor]:
        return pipeline.decode_stream(
            latents,
            plan.decode_chunk_size,
            overlap=plan.decode_overlap,
            first_chunk=first_chunk,
            tile=plan.settings.decode_tile_size,
            optimize=plan.is_optimized,
        )

    if pipeline.ranks is None:
        frames_of_chunks = (frames_to_uint8(frames, compatibility) for frames in decoded(num_done))
        yield from one_ahead(frames_of_chunks)
        return

    def compute(number: int) -> Tensor:
        return torch.from_numpy(frames_to_uint8(next(decoded(num_done + number)), compatibility))

    def like(number: int) -> tuple[tuple[int, ...], torch.dtype, torch.device]:
        kept = spans[number][1]
        return (kept.stop - kept.start, plan.height, plan.width, 3), torch.uint8, torch.device("cpu")

    for frames in pipeline.ranks.in_order(len(spans), compute, like):
        yield frames.numpy()


def one_ahead(items: Iterator[ItemT]) -> Iterator[ItemT]:
    """Yield the items of an iterator while a thread computes the next one.

    The decoder works on a chunk while the last one is written to the video. Order and errors are those of the
    iterator.
    """
    end: Any = object()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="decoder") as thread:
        coming = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item
