"""Regional loss amplification: one rule for every family."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mimic.config.loading import build
from mimic.data.batch import Sample, collate
from mimic.families.registry import load_task, trained_families

SIDE, FRAMES = 16, 2


def make_sample(masks: dict[str, Tensor]) -> Sample:
    generator = torch.Generator().manual_seed(0)

    def pixels(*shape: int) -> Tensor:
        return torch.rand(*shape, 3, SIDE, SIDE, generator=generator) * 2 - 1

    return Sample(pixels(FRAMES), pixels(), pixels(FRAMES + 1), masks, key="clip")


def loss(family: str, factors: dict[str, float], masks: dict[str, Tensor]) -> Tensor:
    kind = load_task(family)
    pipeline = kind.tiny_pipeline(height=SIDE, width=SIDE, seed=0)
    task = kind.from_pipeline(pipeline, build(kind.Settings, {"amplification": factors}, "objective"))
    sample = make_sample(masks)
    draws = {name: drawn[None] for name, drawn in task.draw(sample, torch.Generator().manual_seed(1)).items()}
    with torch.no_grad():
        return task.model(task.encode(collate([sample])), draws).total


@pytest.mark.parametrize("family", trained_families())
def test_where_regions_overlap_the_largest_factor_counts(family: str) -> None:
    everywhere = torch.ones(FRAMES + 1, 1, SIDE // 4, SIDE // 4)
    masks = {"hands": everywhere, "face": everywhere}
    alone = loss(family, {"hands": 10.0}, masks)
    assert torch.equal(loss(family, {"hands": 10.0, "face": 3.0}, masks), alone)
    assert torch.equal(loss(family, {"face": 3.0, "hands": 10.0}, masks), alone)
    torch.testing.assert_close(alone, 10 * loss(family, {}, masks))
