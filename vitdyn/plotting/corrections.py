"""Panels of RC-MAE's correction: by how like inputs are to those of training, along training; and errors beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from vitdyn._axes import FRAME, SEED
from vitdyn.observables import Observable, TeacherCorrection
from vitdyn.plotting.questions import Panel, Series
from vitdyn.plotting.style import BLACK, BLUE, GREEN, VERMILLION
from vitdyn.trajectory import Trajectory
from vitdyn.vits.correction import BLENDS
from vitdyn.vits.landscape_numbers import SHOWN

_LOOKS = ((BLUE, "o"), (VERMILLION, "s"), (GREEN, "^"), (BLACK, "D"))
_LIKE = np.array(list(BLENDS.values()))
_SAME, _NOISE = "others", "noise"
_KINDS = ("seen", _SAME, "patches", "pixels", _NOISE)


BY_LIKENESS = tuple(
    Observable(
        name=f"{number}_{place}",
        compute=TeacherCorrection(number=number, similarity=similarity),
        may_be_missing=True,
    )
    for number in ("cosine", "strength")
    for place, similarity in enumerate(BLENDS.values())
)
"""What a run of the layer records for ``of_layer``: the correction on inputs like ``BLENDS``."""


class Reading(NamedTuple):
    """The correction's cosine with the lag and its strength, by frame, seed and ``inputs``; frames have a step."""

    cosine: xr.DataArray
    strength: xr.DataArray


def joined(runs: Sequence[Trajectory], name: str) -> xr.DataArray:
    """Return a variable of runs that differ in their seed alone."""
    return xr.concat([each[name] for each in runs], SEED)


def of_layer(run: Trajectory) -> Reading:
    """Return what a run of the layer has recorded of the correction."""
    places = range(len(BLENDS))
    return Reading(*(xr.concat([run[f"{name}_{at}"] for at in places], SHOWN) for name in Reading._fields))


def of_vits(runs: Sequence[Trajectory]) -> Reading:
    """Return what surveys of ViTs, one for each seed, have measured of the correction."""
    return Reading(*(joined(runs, f"correction_{name}") for name in Reading._fields))


def correction_panels(
    layers: Mapping[str, Reading], vits: Mapping[str, Reading], early: int, late: int
) -> list[Panel]:
    """Return the panels of layers and of ViTs by their names.

    Layers have inputs in the order of ``BLENDS``. Their sizes are those at step ``early``, where areas are not learned
    yet; ViTs are looked at at step ``late``.
    """
    seen = {name: Reading(*(_at(each, late) for each in reading)) for name, reading in vits.items()}
    directions = {name: _at(each.cosine, None).to_numpy() for name, each in layers.items()}
    sizes = {f"{name}, early": _at(each.strength, early).to_numpy() for name, each in layers.items()}
    sizes |= {name: each.strength.sel({SHOWN: list(BLENDS)}).to_numpy() for name, each in seen.items()}
    kinds = {f"{name}: cosine": each.cosine for name, each in seen.items()}
    kinds |= {
        f"{name}: norm": each.strength / each.strength.sel({SHOWN: _SAME}) for name, each in seen.items()
    }
    shown = {name: each.sel({SHOWN: list(_KINDS)}).to_numpy() for name, each in kinds.items()}
    along = {
        f"{name}, {kind}": each.cosine.sel({SHOWN: kind}).transpose(FRAME, SEED)[1:]
        for name, each in vits.items()
        for kind in (_SAME, _NOISE)
    }
    steps = next(iter(along.values()))["step"].to_numpy()
    across, cosine = "s, likeness to what was seen", "cosine with θ − θ̄"
    looks = {name: each.cosine.sel({SHOWN: list(BLENDS)}).to_numpy() for name, each in seen.items()}
    return [
        Panel(title="layer: direction", across=across, up=cosine, series=told_apart(directions, _LIKE)),
        Panel(title="ViT: direction", across=across, up=cosine, series=told_apart(looks, _LIKE)),
        Panel(
            title="size",
            across=across,
            up="norm over that at s = 1",
            series=told_apart({name: each / each[0] for name, each in sizes.items()}, _LIKE),
            limits=None,
        ),
        Panel(
            title="ViT: other images",
            across="",
            up="cosine; norm over others'",
            series=told_apart(shown, np.arange(len(_KINDS))),
            ticks=list(enumerate(_KINDS)),
            limits=None,
        ),
        Panel(
            title="ViT: along training",
            across="step",
            up=cosine,
            series=told_apart({name: each.to_numpy() for name, each in along.items()}, steps),
            kind="curve",
            limits=None,
        ),
    ]


def error_panel(title: str, errors: Mapping[str, xr.DataArray], *, scale: str = "linear") -> Panel:
    """Return a panel of errors of reconstruction, (frame, seed), along training."""
    steps = next(iter(errors.values()))["step"].to_numpy()
    series = told_apart(
        {name: each.transpose(FRAME, SEED).to_numpy() for name, each in errors.items()}, steps
    )
    return Panel(
        title=title,
        across="step",
        up="error of masked patches",
        series=series,
        kind="curve",
        scale=scale,
        limits=None,
    )


def told_apart(values: Mapping[str, np.ndarray], x: np.ndarray) -> list[Series]:
    """Return a series of each of up to four ``values``, (place, seed), with a colour and a marker of its own."""
    return [
        Series(words=words, x=x, values=each, colour=colour, marker=marker)
        for (words, each), (colour, marker) in zip(values.items(), _LOOKS, strict=False)
    ]


def _at(values: xr.DataArray, step: int | None) -> xr.DataArray:
    """Return (inputs, seed) at the first frame from ``step`` on, or at the last."""
    frame = -1 if step is None else min(int((values["step"] < step).sum()), values.sizes[FRAME] - 1)
    return values.isel({FRAME: frame}).transpose(SHOWN, SEED)
