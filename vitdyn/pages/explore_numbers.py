"""What the explorer shows of a trajectory: curves by area, what each ends at, and the regime that was learned."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from vitdyn._axes import AREA, FRAME, GLOBAL_AREA, KEY_AREA, QUERY_AREA, SEED, STATISTIC, STATISTICS
from vitdyn.experiments.families import half_frame
from vitdyn.observables import attention_moved, learned_regime
from vitdyn.trajectory import Trajectory

DIGITS = 4
"""Significant digits of what is drawn: more than a screen shows."""
MOST_AREAS = 16
"""Curves that a reader tells apart; where there are more areas, local ones are drawn in their mean."""
_OVER: dict[str, Any] = {"mean": np.nanmean, "minimum": np.nanmin, "maximum": np.nanmax}


class Panel(NamedTuple):
    """One variable seen one way: by area of the query, or one curve alone; a statistic over positions by its name."""

    name: str
    title: str
    symbol: str
    meaning: str
    by_area: bool
    values: Mapping[str, Float[np.ndarray, "frame seed series"]]


class Quantity(NamedTuple):
    """A number of a cell: its name and the variable it is read off, and its value for each seed."""

    name: str
    title: str
    symbol: str
    meaning: str
    seeds: Float[np.ndarray, " seed"]


def panels_of(trajectory: Trajectory) -> list[Panel]:
    """Return what can be drawn over the frames of a run: each variable that has frames and seeds."""
    with warnings.catch_warnings():
        # areas that a cluster lacks are NaN throughout, and so are their means
        warnings.simplefilter("ignore", RuntimeWarning)
        return [
            panel
            for name, variable in trajectory.dataset.data_vars.items()
            if {FRAME, SEED} <= set(variable.dims) and variable.dtype.kind == "f"
            for panel in _panels(str(name), variable, trajectory.dataset)
        ]


def _panels(name: str, variable: Any, dataset: Any) -> Iterator[Panel]:
    words = name.replace("_", " "), variable.attrs.get("symbol", ""), variable.attrs.get("long_name", "")
    area = next((axis for axis in (QUERY_AREA, AREA) if axis in variable.dims), None)
    if area is None or KEY_AREA not in variable.dims:
        yield Panel(name, *words, area is not None, dict(_reduced(variable, area, None)))
        return
    ways = {"to the own area": "own", "to the global area": "global"}
    if _has_area_attention(dataset) and name == "area_attention":
        # own-area attention is recorded over those samples that show some of the area, and so better
        del ways["to the own area"]
    for title, way in ways.items():
        values = dict(_reduced(variable, area, way))
        yield Panel(f"{name}.{way}", f"{words[0]}, {title}", *words[1:], True, values)


def _reduced(variable: Any, area: str | None, way: str | None) -> Iterator[tuple[str, np.ndarray]]:
    """Go through the statistics of a variable as (frame, seed, series), clusters and all other axes in theirs."""
    first = [FRAME, SEED, *([area] if area else []), *([KEY_AREA] if way else [])]
    statistics = STATISTICS if STATISTIC in variable.dims else STATISTICS[:1]
    if len(statistics) == 1:
        variable = variable.expand_dims(STATISTIC)
    values = variable.transpose(STATISTIC, *first, ...).to_numpy().astype(np.float64)
    if way == "own":
        values = np.moveaxis(np.diagonal(values, axis1=3, axis2=4), -1, 3)
    elif way == "global":
        values = values[:, :, :, :, GLOBAL_AREA]
    values = values.reshape(*values.shape[: 4 if area else 3], -1)
    for statistic, part in zip(statistics, values, strict=True):
        reduced = _OVER[statistic](part, -1)
        yield statistic, reduced if area else reduced[..., None]


def quantities_of(trajectory: Trajectory, panels: list[Panel]) -> Iterator[Quantity]:
    """Go through the numbers of a run by seed: each panel's end, how far attention moved, and when half of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for panel in panels:
            yield from _ends(panel)
    if _has_area_attention(trajectory.dataset):
        meaning = "of the attention of local areas' queries, how much has changed its place since the start"
        yield Quantity("moved", "attention moved", "", meaning, attention_moved(trajectory)[-1])
        first = half_frame(trajectory)
        is_flow = trajectory.spec.get("kind") == "MeanField"  # its steps are frames
        for clock in ("time",) if is_flow else ("time", "step"):
            meaning = f"{clock} from which on at least half of the attention that moves in all has moved"
            seeds = trajectory[clock].to_numpy()[first].astype(np.float64)
            yield Quantity(f"half_{clock}", f"{clock} of half the move", "", meaning, seeds)


def _ends(panel: Panel) -> Iterator[Quantity]:
    last = {statistic: values[-1] for statistic, values in panel.values.items()}
    words = panel.symbol, panel.meaning
    if not panel.by_area:
        yield Quantity(panel.name, panel.title, *words, last["mean"][:, 0])
        return
    # without a statistic over positions, the least of the areas' means
    least, greatest = last.get("minimum", last["mean"]), last.get("maximum", last["mean"])
    for name, title, seeds in (
        ("local", "local areas, mean", np.nanmean(last["mean"][:, GLOBAL_AREA + 1 :], -1)),
        ("of_global", "global area", last["mean"][:, GLOBAL_AREA]),
        ("least", "least", np.nanmin(least, -1)),
        ("greatest", "greatest", np.nanmax(greatest, -1)),
    ):
        yield Quantity(f"{panel.name}.{name}", f"{panel.title} ({title})", *words, seeds)


def regimes_of(trajectory: Trajectory) -> dict[str, int] | None:
    """Return how many seeds learned each regime, None of a run without attention by area."""
    if not _has_area_attention(trajectory.dataset):
        return None
    return dict(Counter(map(str, learned_regime(trajectory))))


def curves_of(panels: list[Panel], frames: np.ndarray, *, by_area: bool) -> dict[str, Any]:
    """Return each panel's curves by name: median, least and greatest of the seeds at some frames (3, series, frame)."""
    found = {}
    for panel in panels:
        values = panel.values["mean"][frames]
        names = _names(values.shape[-1]) if panel.by_area else [""]
        if panel.by_area and (not by_area or len(names) > MOST_AREAS):
            local = np.nanmean(values[..., GLOBAL_AREA + 1 :], -1, keepdims=True)
            values, names = np.append(values[..., : GLOBAL_AREA + 1], local, -1), ["global", "local, mean"]
        there = ~np.isnan(values).all((0, 1))
        names = [name for name, is_there in zip(names, there, strict=True) if is_there]
        if names:
            spread = _spread(values[..., there])
            found[panel.name] = {"series": names, "values": plain(spread.transpose(0, 2, 1))}
    return found


def _spread(drawn: np.ndarray) -> np.ndarray:
    """Return median, least and greatest of the seeds, NaN in a frame that no seed has a value in."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        # nanmedian is slow
        median = np.nanmedian(drawn, 1) if np.isnan(drawn).any() else np.median(drawn, 1)
        return np.stack([median, np.nanmin(drawn, 1), np.nanmax(drawn, 1)])


def _names(areas: int) -> list[str]:
    return ["global", *(f"local {number}" for number in range(1, areas))]


def _has_area_attention(dataset: Any) -> bool:
    return {"area_attention", "own_area_attention"} <= set(dataset.data_vars)


def thinned(count: int, most: int) -> np.ndarray:
    """Return at most so many places of ``count``, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def plain(values: Any) -> Any:
    """Return numbers for JSON, to ``DIGITS`` significant digits; None for what is not finite."""
    array = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(array)
    known = np.where(finite & (array != 0), array, 1.0)
    scale = 10.0 ** (DIGITS - 1 - np.floor(np.log10(np.abs(known))))
    rounded = np.where(array == 0, 0.0, np.round(known * scale) / scale).astype(object)
    rounded[~finite] = None
    return rounded.tolist()
