"""Panels of RC-MAE's correction: by how like inputs are to those of training, along training; and errors beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
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
_PLACES = np.arange(len(_KINDS))
_COSINE = "cosine with θ − θ̄"


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
    inputs = xr.DataArray(list(BLENDS), dims=SHOWN, name=SHOWN)
    numbers = ([run[f"{name}_{place}"] for place in range(len(BLENDS))] for name in Reading._fields)
    return Reading(*(xr.concat(each, inputs) for each in numbers))


def of_vits(runs: Sequence[Trajectory]) -> Reading:
    """Return what surveys of ViTs, one for each seed, have measured of the correction."""
    return Reading(*(joined(runs, f"correction_{name}") for name in Reading._fields))


def correction_panels(
    layers: Mapping[str, Reading], vits: Mapping[str, Reading], early: int, late: int
) -> list[Panel]:
    """Return the panels of layers and of ViTs by their names.

    A layer's cosine is that at the end, its size that at step ``early``, where areas are not learned yet; ViTs are
    looked at at step ``late``.
    """
    seen = {name: Reading(*(_at(each, late) for each in reading)) for name, reading in vits.items()}
    sizes = {f"{name}, early": _at(each.strength, early) for name, each in layers.items()}
    sizes |= {name: each.strength for name, each in seen.items()}
    relative = {name: each / each.sel({SHOWN: _SAME}) for name, each in sizes.items()}
    over = "norm over that at s = 1"
    return [
        _by_likeness(
            "layer: direction",
            _COSINE,
            {name: each.cosine.isel({FRAME: -1}) for name, each in layers.items()},
        ),
        _by_likeness("ViT: direction", _COSINE, {name: each.cosine for name, each in seen.items()}),
        replace(_by_likeness("size", over, relative), limits=None),
        _other_images(seen),
        _along_training(vits),
    ]


def _by_likeness(title: str, up: str, values: Mapping[str, xr.DataArray]) -> Panel:
    series = told_apart({name: _by_inputs(each, tuple(BLENDS)) for name, each in values.items()}, _LIKE)
    return Panel(title=title, across="s, likeness to what was seen", up=up, series=series)


def _other_images(seen: Mapping[str, Reading]) -> Panel:
    """Return a panel of images of the last step, others, and what these are made into."""
    values = {f"{name}: cosine": each.cosine for name, each in seen.items()}
    for name, each in seen.items():
        values[f"{name}: norm"] = each.strength / each.strength.sel({SHOWN: _SAME})
    return Panel(
        title="ViT: other images",
        across="",
        up="cosine; norm over others'",
        series=told_apart({name: _by_inputs(each, _KINDS) for name, each in values.items()}, _PLACES),
        ticks=list(enumerate(_KINDS)),
        limits=None,
    )


def _along_training(vits: Mapping[str, Reading]) -> Panel:
    """Return a panel of the cosine by step; before the first the teacher is its student."""
    cosines = {
        f"{name}, {kind}": each.cosine.sel({SHOWN: kind}).isel({FRAME: slice(1, None)})
        for name, each in vits.items()
        for kind in (_SAME, _NOISE)
    }
    return _curves("ViT: along training", _COSINE, cosines)


def error_panel(title: str, errors: Mapping[str, xr.DataArray], *, scale: str = "linear") -> Panel:
    """Return a panel of errors of reconstruction, by frame and seed, along training."""
    return replace(_curves(title, "error of masked patches", errors), scale=scale)


def _curves(title: str, up: str, values: Mapping[str, xr.DataArray]) -> Panel:
    steps = next(iter(values.values()))["step"].to_numpy()
    series = told_apart(
        {name: each.transpose(FRAME, SEED).to_numpy() for name, each in values.items()}, steps
    )
    return Panel(title=title, across="step", up=up, series=series, kind="curve", limits=None)


def told_apart(values: Mapping[str, np.ndarray], x: np.ndarray) -> list[Series]:
    """Return a series of each of up to four ``values``, (place, seed), with a colour and a marker of its own."""
    return [
        Series(words=words, x=x, values=each, colour=colour, marker=marker)
        for (words, each), (colour, marker) in zip(values.items(), _LOOKS, strict=False)
    ]


def _at(values: xr.DataArray, step: int) -> xr.DataArray:
    """Return values at the first frame from ``step`` on, or at the last."""
    return values.isel({FRAME: min(int((values["step"] < step).sum()), values.sizes[FRAME] - 1)})


def _by_inputs(values: xr.DataArray, names: Sequence[str]) -> np.ndarray:
    return values.sel({SHOWN: list(names)}).transpose(SHOWN, SEED).to_numpy()
