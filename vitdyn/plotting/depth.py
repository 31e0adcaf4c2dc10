"""Panels about depth: attention of layers along training, numbers by layer, and models beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from vitdyn._axes import LAYER, SEED
from vitdyn.plotting.by_head import attention_by_head
from vitdyn.plotting.corrections import told_apart
from vitdyn.plotting.questions import Panel, Series
from vitdyn.plotting.style import BLACK, BLUE, VERMILLION
from vitdyn.trajectory import Trajectory

_LOOKS = {"MAE": (BLUE, "o"), "CL": (VERMILLION, "s")}


def along_training(title: str, run: Trajectory, pair: str) -> Panel:
    """Return a panel of what local queries attend to, ``pair`` as in ``attention_by_head``, a line a layer."""
    attention = attention_by_head(run, pair).mean(-1)
    values = {f"layer {layer + 1}": attention[..., layer] for layer in range(attention.shape[-1])}
    series = told_apart(values, run["step"].to_numpy())
    return Panel(title=title, across="step", up="attention", series=series, kind="curve", scale="clock")


def at_the_end(run: Trajectory, name: str) -> Float[np.ndarray, "layer seed"]:
    """Return a number of each layer at the last frame, the mean over heads."""
    values = run.final[name]
    others = [axis for axis in values.dims if axis not in (LAYER, SEED)]
    return values.mean(others).transpose(LAYER, SEED).to_numpy()


def shares(rises: Float[np.ndarray, "layer seed"]) -> Float[np.ndarray, "layer seed"]:
    """Return rises as parts of their sum over layers; a fall counts as none, and NaN where nothing rises."""
    kept = np.maximum(rises, 0.0)
    with np.errstate(invalid="ignore"):
        return kept / kept.sum(0)


def by_layer(
    title: str,
    up: str,
    values: Mapping[str, Float[np.ndarray, "layer seed"]],
    expected: Float[np.ndarray, " layer"] | None = None,
) -> Panel:
    """Return a panel of a number of each layer by loss, and what the theory of contrast has of it, as shares."""
    layers = np.arange(1, len(next(iter(values.values()))) + 1)
    series = [_series(loss, layers, each) for loss, each in values.items()]
    if expected is not None:
        parts = shares(expected[:, None])
        series.append(
            Series(words="CL, theory", x=layers, values=parts, colour=BLACK, marker="x", dashes=":")
        )
    ticks = [(float(layer), str(layer)) for layer in layers]
    return Panel(title=title, across="layer", up=up, series=series, ticks=ticks)


def over_models(title: str, up: str, values: Mapping[str, Mapping[str, Float[np.ndarray, " seed"]]]) -> Panel:
    """Return a panel of a number by loss and model; seeds that a model lacks are left out."""
    names = list(next(iter(values.values())))
    most = max(len(seeds) for each in values.values() for seeds in each.values())

    def filled(each: Mapping[str, Float[np.ndarray, " seed"]]) -> Float[np.ndarray, "model seed"]:
        return np.stack(
            [np.pad(each[name], (0, most - len(each[name])), constant_values=np.nan) for name in names]
        )

    places = np.arange(len(names))
    series = [_series(loss, places, filled(each)) for loss, each in values.items()]
    # models are no scale: no line joins them
    apart = [replace(each, width=0.0) for each in series]
    ticks = [(float(place), name) for place, name in enumerate(names)]
    return Panel(title=title, across="", up=up, series=apart, ticks=ticks)


def _series(loss: str, x: np.ndarray, values: np.ndarray) -> Series:
    colour, marker = _LOOKS[loss]
    return Series(words=loss, x=x, values=values, colour=colour, marker=marker)
