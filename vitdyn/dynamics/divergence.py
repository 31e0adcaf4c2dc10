"""When a run stops being finite: noted on the device, told when the host asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

import torch
from jaxtyping import Int
from torch import Tensor

from vitdyn.models import Parameters
from vitdyn.trajectory import Trajectory


class DivergenceError(ArithmeticError):
    """A run whose parameters stopped being finite numbers; says at which step, for which seed.

    ``lost`` has step and seed for each cell that diverged. Of a grid, all other cells are finished first:
    ``trajectories`` has those of all cells in their order, None for one that diverged. It is empty for a single run.
    """

    def __init__(
        self,
        lost: Mapping[int, tuple[int, int]],
        names: Sequence[str] = ("",),
        trajectories: Sequence[Trajectory | None] = (),
    ) -> None:
        self.lost, self.trajectories = dict(lost), tuple(trajectories)
        where = "; ".join(
            f"step {step}, {f'{names[cell]}, ' if names[cell] else ''}seed {seed}"
            for cell, (step, seed) in sorted(lost.items())
        )
        super().__init__(
            f"{where}: the parameters are not finite; take a smaller learning rate or precision='float64'"
        )


def noted_bad_values(
    correlations: Parameters, first_bad: Int[Tensor, " seed"], step: int | Tensor
) -> Int[Tensor, " seed"]:
    """Return ``first_bad`` with ``step`` for seeds that are not finite and were till now (−1), without waiting."""
    # on CPU one number a block tells the usual case; on a GPU to look at it would be to wait
    if not first_bad.is_cuda and all(isfinite(block.sum()) for block in correlations.named().values()):
        return first_bad
    total = torch.stack([block.flatten(1).sum(1) for block in correlations.named().values()]).sum(0)
    fresh = ~total.isfinite() & (first_bad < 0)
    return torch.where(fresh, step, first_bad)
