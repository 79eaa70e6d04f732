"""Reuse of a UNet's deep features from an earlier denoising step (DeepCache, arXiv 2312.00858).

Between neighbouring steps, the features below the highest resolution change little. A step that reuses them
runs the first downward block and the last upward block only; the latter gets the input that it had when the
whole UNet was last run on the same window. The blocks are diffusers' own.

Legend: B batch, F frames, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from torch import Tensor, nn

from mimic.models.view import CalledAs


class Budget:
    """Bytes that may be used, and that are."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0


class DeepFeatures:
    """The input of the last upward block of one window: recorded by a whole pass, used by a shallow one.

    Args:
        budget: counts the bytes of all windows' features.
    """

    def __init__(self, budget: Budget) -> None:
        self.is_reused = False
        """Whether passes are shallow, if something was recorded."""
        self.features: Tensor | None = None
        self._budget = budget

    @property
    def is_shallow(self) -> bool:
        return self.is_reused and self.features is not None

    def record(self, features: Tensor) -> None:
        """Keep the features in place of former ones, if the budget allows it."""
        former, self.features = self.features, None
        self._budget.used -= 0 if former is None else former.nbytes
        if self._budget.used + features.nbytes <= self._budget.limit:
            self._budget.used += features.nbytes
            self.features = features


class FeatureReuse:
    """Deep features of all windows of a run; decides which steps reuse them.

    Args:
        interval: the whole UNet is run every `interval` steps, beginning with the first.
        budget_bytes: memory for features. Windows beyond it are computed in full at every step. (They recur
            in the same order at every step, so that keeping the latest ones would never help.)
    """

    def __init__(self, interval: int, budget_bytes: int) -> None:
        self._interval = interval
        self._budget = Budget(budget_bytes)
        self._kept: dict[Hashable, DeepFeatures] = {}

    def __call__(self, step: int, key: Hashable) -> DeepFeatures:
        """Return the features of a window in a branch of guidance.

        Args:
            step: index of the step among all steps of the run, also if the run was resumed.
            key: identifies window and branch.
        """
        features = self._kept.setdefault(key, DeepFeatures(self._budget))
        features.is_reused = step % self._interval != 0
        return features


class _Absent:
    """A skip connection of a block that was not run."""

    shape = (0, 0, 0, 0)

    def __add__(self, other: object) -> _Absent:
        return self


def parts_reusing(unet: nn.Module, features: DeepFeatures, parts: dict[str, Any]) -> dict[str, Any]:
    """Return replacements for a view of a UNet (`mimic.models.view.View`) that record or reuse features.

    Args:
        unet: a UNet of diffusers with `down_blocks`, `mid_block` and `up_blocks`.
        features: the window's.
        parts: replacements already chosen; those of blocks that are run stay.
    """
    down, up = (list(parts.get(name, getattr(unet, name))) for name in ("down_blocks", "up_blocks"))
    if len(up) < 2:
        return parts
    if not features.is_shallow:
        return {**parts, "up_blocks": [*up[:-1], CalledAs(up[-1], _recorder(features))]}
    deep = features.features
    return {
        **parts,
        "down_blocks": [down[0], *(CalledAs(block, _skipped_down) for block in down[1:])],
        "mid_block": CalledAs(
            unet.get_submodule("mid_block"), lambda block, hidden_states, *_, **__: hidden_states
        ),
        "up_blocks": [*(CalledAs(block, lambda *_, **__: deep) for block in up[:-1]), up[-1]],
    }


def _recorder(features: DeepFeatures) -> Any:
    def call(block: nn.Module, *, hidden_states: Tensor, **arguments: Any) -> Any:
        features.record(hidden_states)
        return block(hidden_states=hidden_states, **arguments)

    return call


def _skipped_down(
    block: Any, hidden_states: Tensor, *_: Any, **__: Any
) -> tuple[Tensor, tuple[_Absent, ...]]:
    num = len(block.resnets) + (len(block.downsamplers) if block.downsamplers is not None else 0)
    return hidden_states, (_Absent(),) * num
