"""What went into the miniatures is counted of the recipes that they had."""

from __future__ import annotations

import json

import pytest

from benchmarks.mini_compute import RESULT, SHIPPED, Recipe, cost_of, grown_from


@pytest.mark.parametrize("recipes", SHIPPED.values(), ids=SHIPPED)
def test_the_kept_figures_are_of_the_shipped_recipes(recipes: list[Recipe]) -> None:
    system = next(system for system, own in SHIPPED.items() if own is recipes)
    targets = grown_from()[system].targets
    for recipe in recipes:
        settings = recipe.settings()
        windows = settings.batch_size * settings.data.references
        targets += windows * settings.data.num_frames * recipe.steps
    assert json.loads(RESULT.read_text(encoding="utf-8"))[system]["targets"] == targets


@pytest.mark.slow
def test_a_step_is_counted_with_its_gradients_and_attention() -> None:
    one, two = cost_of(Recipe("mini", 1)), cost_of(Recipe("mini", 2))
    assert (one.targets, one.dancers) == (12, 2)
    assert two.tflop == pytest.approx(2 * one.tflop)
    # 7.5 million weights, most of them at 12x12 and below, 16 pictures, forward and twice that back.
    assert 0.05 < one.tflop < 2.0
