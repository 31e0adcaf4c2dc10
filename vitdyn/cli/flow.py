"""``vitdyn flow``: the limit of many patches, as one differential equation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitdyn._progress import duration
from vitdyn._tables import text_table
from vitdyn.cli.objective import DataOptions, distribution_of, result_file, seconds_of_calls

_TIMED = 50


@dataclass(frozen=True, kw_only=True)
class FlowOptions(DataOptions):
    """Follows the mean-field flow from Q = 0 and sets it beside the theory's rates; mostly a second, at any P."""

    patches: float = 1e16
    """P, up to 1e60."""
    outside: bool = False
    """Accept exponents anywhere in [0, 1], where the theory makes no statement."""
    clusters: int | None = None
    """K; left out: 1 for masked reconstruction, 16 for objectives that contrast."""
    negatives: int = 64
    """Negatives of a contrastive loss."""
    position_correlations: bool = False
    """Let Υ move too (one cluster only)."""
    until: float = 0.99
    """The flow ends where the attention that the objective is about reaches this."""
    learning_rate: float | None = None
    """Descend with a finite step of this size in place of the flow."""
    steps: int = 10_000
    """Most steps of descent."""
    nodes: int = 24
    """Quadrature nodes for each latent."""
    frames: int = 96
    """How many time points are recorded."""
    out: Path = Path("results")
    """Folder for the result file and the picture."""


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Follow the limit of many patches and draw it: ``vitdyn flow mae --help`` has the options."""


def follow(objective: Any, options: FlowOptions) -> int:
    """Carry out ``vitdyn flow``."""
    from vitdyn.data import AreaSizes
    from vitdyn.dynamics import Runtime
    from vitdyn.experiments import Experiment, run
    from vitdyn.plotting import flow_page, save_figure
    from vitdyn.reduced import MeanField

    sizes = AreaSizes.from_exponents(
        options.patches, options.kappa_c, options.kappa_s, outside=options.outside
    )
    # Contrast collapses against negatives of other clusters only.
    alone = objective.view_count == 1
    spec = MeanField(
        sizes=sizes,
        objective=objective,
        latents=distribution_of(options),
        clusters=options.clusters if options.clusters is not None else 1 if alone else 16,
        negatives=options.negatives,
        position_correlations=options.position_correlations,
        until=options.until,
        learning_rate=options.learning_rate,
        steps=options.steps,
        nodes=options.nodes,
        frames=options.frames,
    )
    experiment = Experiment(name=f"{objective.name}-flow", training=spec)
    path = result_file(experiment, options.out)
    print(
        f"P = {sizes.patches:g}, global area {sizes.global_size:.4g}, {sizes.local_areas:.4g} local areas of "
        f"{sizes.local_size:.4g}, Δ = {sizes.information_gap:+.3g}"
    )
    if spec.learning_rate is not None:
        _say_cost(spec)
    trajectory = run(experiment, out=path, runtime=Runtime(progress=True))
    picture = save_figure(flow_page(trajectory), path.with_suffix(""))
    print(text_table(("of a query at the end", "local", "global"), _ends(trajectory)))
    print(f"time     {float(trajectory.final['time']):.4g}")
    if rates := _rates(spec):
        print(text_table(("theory", "exponent of P", "P to it", "source"), rates))
    print(f"result   {path}\npicture  {picture}")
    return 0


def _say_cost(spec: Any) -> None:
    """Print how long a descent may take, where that is more than a minute: the time of a step times their number."""
    right, state = spec.right_hand_side, np.zeros(len(spec.parameters))
    seconds = seconds_of_calls(lambda _: right(state), _TIMED) * spec.steps
    if seconds > 60:
        print(f"{spec.steps} steps: up to {duration(seconds)}", flush=True)


def _ends(trajectory: Any) -> list[tuple[Any, ...]]:
    """Return attention and correlations of a local and of a global query at the end."""
    final = trajectory.final.sel(statistic="mean").isel(seed=0, cluster=0)
    attention, phi = final["area_attention"], final["feature_position"]
    pick = [("attention to its own area", attention, None), ("attention to the global area", attention, 0)]
    pick += [("Φ with its own area", phi, None), ("Φ with the global area", phi, 0)]
    return [
        (words, *(f"{float(values[query, query if key is None else key]):.4f}" for query in (1, 0)))
        for words, values, key in pick
    ]


def _rates(spec: Any) -> list[tuple[Any, ...]]:
    """Return the theory's time scales for the objective; none is known for a mixture, whose clock is slower."""
    from vitdyn.theory import Regime, contrastive_time, global_area_time, local_area_time

    known = {0.0: (local_area_time, global_area_time), 1.0: (contrastive_time,)}
    rates = [rate(Regime.of(spec.sizes)) for rate in known.get(spec.weight, ())]
    return [
        (rate.statement, f"{rate.exponent:.3g}", f"{spec.sizes.patches**rate.exponent:.3g}", rate.source)
        for rate in rates
    ]
