"""The loss of training steps by noise level, at the levels at which validation measures it.

Legend: B samples, L levels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mimic.families.task import Draws, TrainingTask


class LossesByLevel:
    """Adds up the losses of a step's samples, each at the nearest of the task's noise levels.

    Args:
        task: whose levels are used; without any, nothing is added up.
    """

    def __init__(self, task: TrainingTask) -> None:
        levels = task.noise_levels()
        places = [task.place_of_level(draws) for draws in levels.values()]
        known = [place for place in places if place is not None]
        self.names = [f"loss_{name}" for name in levels] if len(known) == len(places) else []
        """As validation calls them."""
        self._task = task
        self._places = torch.stack(known) if self.names else torch.zeros(0)

    def sums(self, draws: Draws, losses_B: Tensor | None) -> Tensor:
        """Return the sum of losses and the number of samples of each level, ``2 x L``, on the losses' device.

        Args:
            draws: of the samples, stacked.
            losses_B: of the samples; None: unknown.
        """
        if losses_B is None or not self.names:
            return self._places.new_zeros(2, len(self.names))
        places = self._task.place_of_level(draws)
        assert places is not None
        nearest = (places[:, None] - self._places.to(places)[None]).abs().argmin(dim=1)
        sums = losses_B.new_zeros(2, len(self.names))
        sums.index_add_(1, nearest, torch.stack([losses_B, torch.ones_like(losses_B)]))
        return sums

    def means(self, sums: list[float]) -> dict[str, float]:
        """Return the mean loss of each level that a step had samples of, from the numbers of `sums` in a row,
        which may all be divided by the same number."""
        losses, counts = sums[: len(self.names)], sums[len(self.names) :]
        return {name: loss / count for name, loss, count in zip(self.names, losses, counts) if count > 0}
