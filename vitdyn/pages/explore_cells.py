"""The cells of a sweep as a page holds them: thinned to what a screen shows, and to what a page can carry."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vitdyn._errors import invalid_value
from vitdyn._progress import progress
from vitdyn.pages.explore_grid import Cell, Grid
from vitdyn.pages.explore_numbers import (
    Panel,
    curves_of,
    panels_of,
    plain,
    quantities_of,
    regimes_of,
    thinned,
)
from vitdyn.trajectory import Trajectory

DONE = "done"
WITHOUT = ("failed", "refused", "unusable")
"""Statuses of cells that have no result although they were tried; their errors say why."""
MOST_CELLS = 20_000
_SAMPLE = 12
"""Cells that are packed for trial, to learn what a cell takes, of a sweep with many more."""


@dataclass(frozen=True, kw_only=True)
class Detail:
    """What is kept: so many frames of a cell, curves of each area or of local ones' mean, every nth cell's."""

    frames: int = 60
    by_area: bool = True
    every: int = 1
    recipes: bool = True

    @property
    def words(self) -> list[str]:
        """What is left out, in words."""
        most = Detail()
        return [
            *([f"trajectories are thinned to {self.frames} frames"] if self.frames < most.frames else []),
            *(["local areas are drawn in their mean"] if not self.by_area else []),
            *(["the JSON of each experiment is left out"] if not self.recipes else []),
            *([f"trajectories are kept of one cell in {self.every}"] if self.every > 1 else []),
        ]


DETAILS = (
    Detail(),
    Detail(frames=40),
    Detail(frames=40, by_area=False),
    Detail(frames=24, by_area=False),
    Detail(frames=24, by_area=False, recipes=False),
    *(Detail(frames=24, by_area=False, recipes=False, every=every) for every in (3, 10, 30, 100)),
)
"""From what a small sweep gets to what a large one does; the first that fits is taken."""


def packed(value: Any) -> str:
    """Return a value as compressed JSON in base64, in which no name can be taken for HTML; the same each time."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def fitting(grid: Grid, room: int, *, show: bool = False) -> tuple[str, list[str]]:
    """Return the sweep packed in at most ``room`` bytes, and in words what was left out for that.

    Raises ``ValueError`` where a page cannot hold it.
    """
    if len(grid.cells) > MOST_CELLS:
        words = (
            f"one page shows {MOST_CELLS:,} cells: collect fewer values of an axis into a folder of their own"
        )
        raise invalid_value("sweep", f"{len(grid.cells):,} cells", words)
    done = [cell for cell in grid.cells if cell.status == DONE]
    for detail in DETAILS:
        if _estimate(grid, done, detail) > room:
            continue
        text = packed(_held(grid, done, detail, show=show))
        if len(text) <= room:
            return text, detail.words
    words = "does not fit one page: record fewer observables, or collect fewer values of an axis"
    raise invalid_value("sweep", f"{len(grid.cells):,} cells", words)


def _estimate(grid: Grid, done: Sequence[Cell], detail: Detail) -> float:
    """Return about how many bytes the cells take, from a few of them; 0 where they are few enough to be tried."""
    if len(done) <= 4 * _SAMPLE:
        return 0.0
    some = [done[number]._replace(place=place) for place, number in enumerate(thinned(len(done), _SAMPLE))]
    text = packed(_held(replace(grid, cells=some), some, replace(detail, every=1)))
    return len(text) * len(done) / len(some) / detail.every


def _held(grid: Grid, done: Iterable[Cell], detail: Detail, *, show: bool = False) -> dict[str, Any]:
    """Return what the page's script reads: by cell what is told of it, by quantity the values of all cells."""
    columns = _Columns(len(grid.cells), detail)
    chosen = list(done)
    with progress(show, len(chosen), "cell", "explore") as bar:
        for number, cell in enumerate(chosen):
            try:
                columns.take(cell, grid.load(cell), with_curves=number % detail.every == 0)
            except ValueError as error:  # the file is damaged, or another version's
                columns.errors[cell.place] = " ".join(str(error).split())
            bar.update(1)
    status = ["unusable" if cell.place in columns.errors else cell.status for cell in grid.cells]
    columns.errors |= {cell.place: cell.error for cell in grid.cells if cell.status in WITHOUT}
    return {
        "status": status,
        "errors": columns.errors,
        "keys": [cell.key for cell in grid.cells],
        **columns.found,
    }


class _Columns:
    """Values of all cells by quantity, filled cell by cell."""

    def __init__(self, count: int, detail: Detail) -> None:
        self.count, self.detail = count, detail
        self.errors: dict[int, str] = {}
        self.clocks: list[Any] = []
        self.found: dict[str, Any] = {
            "regimes": [None] * count,
            "quantities": {},
            "panels": {},
            "curves": {},
            "clocks": self.clocks,
            "recipes": {},
        }

    def take(self, cell: Cell, trajectory: Trajectory, *, with_curves: bool) -> None:
        """Add a cell's numbers."""
        panels = panels_of(trajectory)
        self.found["regimes"][cell.place] = regimes_of(trajectory)
        for each in quantities_of(trajectory, panels):
            self._quantity(cell.place, each)
        if with_curves:
            self.found["curves"][cell.place] = self._curves(trajectory, panels)
        if self.detail.recipes and "experiment" in trajectory.dataset.attrs:
            self.found["recipes"][cell.place] = trajectory.dataset.attrs["experiment"]

    def _quantity(self, index: int, quantity: Any) -> None:
        empty = {name: [None] * self.count for name in ("mean", "low", "high")}
        words = {"title": quantity.title, "symbol": quantity.symbol, "meaning": quantity.meaning}
        column = self.found["quantities"].setdefault(quantity.name, {**words, **empty})
        seeds = quantity.seeds[np.isfinite(quantity.seeds)]
        if len(seeds):
            column["mean"][index], column["low"][index], column["high"][index] = plain(
                [seeds.mean(), seeds.min(), seeds.max()]
            )

    def _curves(self, trajectory: Trajectory, panels: list[Panel]) -> dict[str, Any]:
        for panel in panels:
            words = {"title": panel.title, "symbol": panel.symbol, "meaning": panel.meaning}
            self.found["panels"].setdefault(panel.name, words)
        frames = thinned(trajectory.dataset.sizes["frame"], self.detail.frames)
        clock = {name: plain(trajectory[name].to_numpy()[frames]) for name in ("step", "time")}
        clock["of"] = "time" if trajectory.spec.get("kind") == "MeanField" else "step"
        if clock not in self.clocks:  # cells of one schedule share it
            self.clocks.append(clock)
        curves = curves_of(panels, frames, by_area=self.detail.by_area)
        seeds = trajectory.dataset.sizes["seed"]
        return {"clock": self.clocks.index(clock), "seeds": seeds, "panels": curves}
