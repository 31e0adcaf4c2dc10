"""How a checkpoint's positions lie on the grid of patches, and whether the class token has one."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor

from vitdyn._errors import invalid_value
from vitdyn.vits.families import Assumed
from vitdyn.vits.sidecar import Evidence, pair


@dataclass(frozen=True, kw_only=True)
class PositionGrid:
    """Rows and columns of patches, whether the tokens before them have positions too, and what of it is assumed."""

    grid: tuple[int, int]
    bare: bool
    assumed: Assumed | None

    @property
    def patches(self) -> int:
        """Number of patches."""
        return self.grid[0] * self.grid[1]


def grid_of(positions: int, prefix: int, side: int, evidence: Evidence) -> PositionGrid:
    """Return how ``positions`` lie, of patches of ``side`` pixels with ``prefix`` tokens before them.

    Given a grid, they count its patches with or without those tokens. Left out, config.json decides, or the one
    of both numbers that is a square: no two squares are 1 or 2 apart. Raises ``ValueError`` where nothing fits.
    """
    # most models give the class token a position; timm's no_embed_class gives it none
    counts = {positions - prefix: False, positions: True}
    if (bare := evidence.sidecar.config.get("no_embed_class")) is not None:
        if not isinstance(bare, bool):
            raise invalid_value("no_embed_class", bare, "must be true or false")
        counts = {number: each for number, each in counts.items() if each == bare}
    given = evidence.overrides.grid
    if given is None and (size := evidence.sidecar.config.get("image_size")) is not None:
        height, width = pair("image_size", size)
        given = height // side, width // side
        if given[0] * given[1] not in counts and "hidden_size" not in evidence.sidecar.config:
            # timm's files keep the size of the original when a model was resized
            return _square(counts, positions, prefix, f"config.json's {height}×{width} does not fit")
    if given is None:
        return _square(counts, positions, prefix, "no config.json says the size")
    if given[0] * given[1] not in counts:
        wanted = " or, if the class token has none, ".join(map(str, counts))
        raise invalid_value("grid", given, f"must have as many patches as there are positions, {wanted}")
    # both readings fit: a grid that was given decides, and the other is said
    side_without, bare = isqrt(positions), counts[given[0] * given[1]]
    assumed = None
    if (
        evidence.overrides.grid is not None
        and not bare
        and side_without**2 == positions
        and positions in counts
    ):
        reason = f"one of {positions} is the class token's, though so many are a square without it"
        shown = f"{given[0]}×{given[1]} and {prefix}"
        assumed = Assumed("positions", shown, reason, f"--grid {side_without} {side_without}")
    return PositionGrid(grid=(given[0], given[1]), bare=bare, assumed=assumed)


def _square(counts: dict[int, bool], positions: int, prefix: int, why: str) -> PositionGrid:
    # at most one of both is a square, for no squares of whole numbers are 1 or 2 apart
    for number, bare in counts.items():
        side = isqrt(number)
        if side and side**2 == number:
            rest = ", none for the class token" if bare else f", {prefix} for the tokens before the patches"
            reason = f"a square, for {why}; {positions} positions{rest}"
            assumed = Assumed("grid", f"{side}×{side}", reason, "--grid")
            return PositionGrid(grid=(side, side), bare=bare, assumed=assumed)
    raise invalid_value(
        "grid", positions - prefix, "so many patches form no square: give the grid, (rows, columns)"
    )


def with_all_positions(positions: Tensor, tokens: int) -> Tensor:
    """Return positions for all tokens: 0 for those before the patches where the model adds none to them."""
    lacking = tokens - positions.shape[1]
    before = torch.zeros(1, lacking, positions.shape[2], dtype=positions.dtype, device=positions.device)
    return torch.cat([before, positions], 1) if lacking else positions
