"""``vitdyn reduce``: training in order parameters alone, exact in expectation, at sizes that no simulation reaches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitdyn._progress import duration
from vitdyn._tables import text_table
from vitdyn.cli.objective import DataOptions, distribution_of, result_file, seconds_of_calls

_TIMED = 3


@dataclass(frozen=True, kw_only=True)
class ReduceOptions(DataOptions):
    """Trains the order parameters of a layout on drawn counts, and draws them; the cost does not grow with P."""

    patches: int = 4096
    """P, the number of positions."""
    clusters: int = 1
    """K. With several clusters few positions are interchangeable: there a simulation is no dearer."""
    seeds: int = 8
    """Number of seeds; seeds 0, 1, ... run."""
    steps: int = 400
    """Steps of descent."""
    batch_size: int = 32
    """Samples of a batch, per seed."""
    learning_rate: float | None = None
    """η; left out, the objective's own choice."""
    queries: str = "representatives"
    """Rows that a step reads: all, or representatives of each kind, which is cheaper and noisier."""
    frames: int = 48
    """How many time points are recorded, evenly in the logarithm of the step."""
    out: Path = Path("results")
    """Folder for the result file and the picture."""


@dataclass(frozen=True, kw_only=True)
class Reduce:
    """Train in order parameters alone, exactly in expectation: ``vitdyn reduce mae --help`` has the options."""


def descend_reduced(objective: Any, options: ReduceOptions) -> int:
    """Carry out ``vitdyn reduce``."""
    from vitdyn.data import PatchLayout
    from vitdyn.dynamics import Runtime
    from vitdyn.experiments import Experiment, run
    from vitdyn.observables import learned_regime
    from vitdyn.plotting import flow_page, save_figure
    from vitdyn.reduced import ExactReduction, Symmetry

    layout = PatchLayout.from_exponents(
        options.patches, options.kappa_c, options.kappa_s, clusters=options.clusters
    )
    spec = ExactReduction(
        layout=layout,
        objective=objective,
        latents=distribution_of(options),
        steps=options.steps,
        batch_size=options.batch_size,
        seeds=options.seeds,
        learning_rate=options.learning_rate,
        frames=options.frames,
        queries=options.queries,
    )
    experiment = Experiment(name=f"{objective.name}-reduced", training=spec)
    path = result_file(experiment, options.out)
    symmetry = Symmetry.of(layout)
    print(layout.describe())
    feature, pair, position = symmetry.counts
    print(
        f"{feature} order parameters for {options.patches * layout.sizes.size} of Φ, "
        f"{pair + position} for {options.patches**2} of Υ"
    )
    print(
        f"{options.seeds} seeds x {options.steps} steps: about {duration(_seconds(spec, symmetry))}",
        flush=True,
    )
    trajectory = run(experiment, out=path, runtime=Runtime(progress=True))
    picture = save_figure(flow_page(trajectory), path.with_suffix(""))
    regimes = [str(each) for each in learned_regime(trajectory)]
    rows = [(name, f"{regimes.count(name)} of {options.seeds}") for name in dict.fromkeys(regimes)]
    print(text_table(("learned", "seeds"), rows))
    print(f"result   {path}\npicture  {picture}")
    return 0


def _seconds(spec: Any, symmetry: Any) -> float:
    """Return what a run will take, by the time of its first steps with one seed."""
    from vitdyn.reduced.exact_reduction import sampled_gradient

    order, few = symmetry.zeros(1), spec.seed_numbers[:1]
    arguments = symmetry, order, spec.generator, spec.objective, spec.batch_size, few
    # The first call prepares what later ones find; it is not timed.
    sampled_gradient(*arguments, queries=spec.queries)
    step = seconds_of_calls(lambda step: sampled_gradient(*arguments, step, queries=spec.queries), _TIMED)
    return step * spec.steps * len(spec.seed_numbers)
