"""Who trained a checkpoint decides what its shapes do not tell: heads, how images are resized, their constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value, require_choice, require_integer, require_real

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True, kw_only=True)
class Family:
    """What the authors of a family of models publish: heads by width, and how they evaluate.

    The shorter side is resized to the size of images divided by ``part``.
    """

    words: str
    heads: Mapping[int, int]
    filter: str = "bicubic"
    part: tuple[int, int] = (224, 256)
    mean: tuple[float, ...] = IMAGENET_MEAN
    deviation: tuple[float, ...] = IMAGENET_DEVIATION


# the official scripts of each family; a head of MAE-H has 80 dimensions and not 64
_LARGE = {768: 12, 1024: 16, 1280: 16}
# ViT-Ti, S and B
_SMALL = {192: 3, 384: 6, 768: 12}

FAMILIES = {
    "mae": Family(words="MAE", heads=_LARGE),
    "moco-v3": Family(words="MoCo v3", heads={384: 12} | _LARGE, filter="bilinear"),
    "dino": Family(words="DINO", heads=_SMALL),
    "deit": Family(words="DeiT", heads=_SMALL),
    "augreg": Family(
        words="timm's augreg ViTs", heads=_SMALL | {1024: 16}, part=(9, 10), mean=HALF, deviation=HALF
    ),
}
"""MoCo v3 gives its ViT-S twelve heads of 32 dimensions and evaluates with torchvision's default, bilinear."""

HEADS_BY_WIDTH = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16, 1664: 16}
"""Heads of ViT-Ti, S, B, L, H, g and G. All have 64 dimensions a head but the last three: 80, 88 and 104."""


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """What a caller says of a checkpoint, whatever else is known of it; None leaves it to be found.

    ``grid`` is (rows, columns), and ``family`` one of ``FAMILIES``.
    """

    heads: int | None = None
    grid: tuple[int, int] | None = None
    epsilon: float | None = None
    family: str | None = None

    def __post_init__(self) -> None:
        if self.heads is not None:
            require_integer("heads", self.heads, at_least=1)
        if self.grid is not None:
            if not isinstance(self.grid, (tuple, list)) or len(self.grid) != 2:
                raise invalid_value("grid", self.grid, "must be two whole numbers, (rows, columns)")
            for side in self.grid:
                require_integer("grid", side, at_least=1)
        if self.epsilon is not None:
            require_real("epsilon", self.epsilon, low=0, high=1, open_low=True)
        if self.family is not None:
            require_choice("family", self.family, FAMILIES)


class Assumed(NamedTuple):
    """A fact that decides numbers and that nothing tells: its field, the value taken, why, and what would set it."""

    field: str
    value: str
    reason: str
    remedy: str

    def describe(self) -> str:
        """Return the assumption as one line."""
        return f"assumed {self.field}: {self.value} ({self.reason}); {self.remedy} sets it"


Assume = Callable[[Assumed], None]


def sine_positions(
    grid: tuple[int, int],
    width: int,
    *,
    row_first: bool = False,
    base: float = 10_000.0,
    dtype: torch.dtype = torch.float64,
) -> Float[Tensor, "patch width"] | None:
    """Return the fixed positions of MAE, or with ``row_first`` those of MoCo v3; None if no width has them.

    (sin ω_k a, cos ω_k a, sin ω_k b, cos ω_k b) with ω_k = base^(−4k/width), k < width/4: (a, b) is (column, row)
    in MAE and (row, column) in MoCo v3.
    """
    if width % 4:
        return None
    omega = base ** (-torch.arange(width // 4, dtype=dtype) / (width // 4))
    row = torch.arange(grid[0], dtype=dtype).repeat_interleave(grid[1])[:, None] * omega
    column = torch.arange(grid[1], dtype=dtype).repeat(grid[0])[:, None] * omega
    first, second = (row, column) if row_first else (column, row)
    return torch.cat([first.sin(), first.cos(), second.sin(), second.cos()], 1)


def family_of_positions(positions: Tensor, grid: tuple[int, int]) -> str | None:
    """Return whose fixed positions these are, (patch, width), those of a model tuned from them included.

    They are at most a tenth of their norm away; those that were learned from noise are about their norm away.
    """
    # MAE and MoCo v3 fix their positions, so a file tells by them who trained it
    found = positions.detach().to(torch.float64)
    for family, row_first in (("mae", False), ("moco-v3", True)):
        # fine-tuning moves the positions a little, and some codes let it
        wanted = sine_positions(grid, positions.shape[-1], row_first=row_first)
        if wanted is not None and bool((found - wanted).norm() <= 0.1 * wanted.norm()):
            return family
    return None
