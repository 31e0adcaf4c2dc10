"""The spatial spectrum that representations have once every query finds its own area."""

from __future__ import annotations

import numpy as np

from vitdyn._errors import invalid_value
from vitdyn.data import PatchLayout
from vitdyn.theory.regime import checked


@checked
def areas_log_amplitude(layout: PatchLayout) -> float:
    """Return the relative log amplitude of the areas' indicator functions at the highest frequency below Nyquist.

    A query that gives all its attention to its own area has F_p = z_{a(p)} v_{a(p)}: along v_j the grid holds z_j times
    the indicator of area j. With f = ⌈side/2⌉ − 1 waves along rows and columns alike, the mean over areas, and over
    clusters, of log(|Σ_{p in j} e^{−2πi f(row + column)/side}|/C_j), in which z_j cancels; −∞ if one of them has none.

    Raises ``ValueError`` for a layout that is on no square grid. Source: our notes, claims.md (PARK-FREQUENCY).
    """
    if layout.grid is None or layout.grid[0] != layout.grid[1]:
        raise invalid_value("layout.grid", layout.grid, "must be a square grid")
    side = layout.grid[0]
    rows, columns = np.divmod(np.arange(layout.patches), side)
    # The highest frequency below Nyquist, along rows and columns alike.
    wave = np.exp(-2j * np.pi * ((side + 1) // 2 - 1) * (rows + columns) / side)
    found = []
    for areas, sizes in zip(layout.partition, layout.sizes, strict=True):
        sums = np.array([wave[np.equal(areas, area)].sum() for area in range(max(areas) + 1)])
        amplitudes = np.where(np.abs(sums) < 1e-12 * side**2, 0.0, np.abs(sums))  # round-off is no amplitude
        with np.errstate(divide="ignore"):
            found.append(float(np.log(amplitudes / sizes[: len(sums)]).mean()))
    return float(np.mean(found))
