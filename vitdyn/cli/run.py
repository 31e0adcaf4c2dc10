"""``vitdyn run``: train one model per seed and draw what it learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

from vitdyn._errors import invalid_value, require_choice, require_integer
from vitdyn._progress import duration
from vitdyn._tables import text_table
from vitdyn.cli.added_data import AddedDataOptions, generator_of
from vitdyn.cli.model import LAYER, model_of
from vitdyn.cli.objective import DataOptions, distribution_of, result_file


@dataclass(frozen=True, kw_only=True)
class RunOptions(AddedDataOptions, DataOptions):
    """Trains one model per seed and writes a result file and a picture; an interrupted run goes on when repeated."""

    patches: int = 256
    """P, the number of positions."""
    model: str = LAYER
    """Model: one-layer (the theory's), transformer, or your ``--module``'s. Its fields are options too, which
    this help has beside ``--model transformer``: ``--heads``, ``--layers`` and others."""
    clusters: int = 2
    """K, clusters of images, each with its own partition. With one, contrast cannot tell samples by it."""
    seeds: int = 8
    """Number of seeds; seeds 0, 1, ... run."""
    steps: int = 400
    """Steps of descent."""
    batch_size: int = 32
    """Samples of a batch, per seed."""
    dataset_size: int | None = None
    """Size of a fixed data set; fresh samples at every step where it is left out."""
    optimizer: str = "gradient"
    """Optimizer: gradient, momentum, adam, or your ``--module``'s."""
    learning_rate: float | None = None
    """η; left out, the objective's own choice for gradient descent (divided by 10 for momentum, 0.05 for adam)."""
    metrics: tuple[str, ...] = ()
    """Observables to record too, by name, as ``vitdyn list`` has them: attention_distance, mutual_information,
    attention_entropy, token_similarity, high_frequency, lidar, rank_me, local_r_squared, global_r_squared; by layer and
    head head_own_attention, head_global_attention, query_homogeneity, head_diversity and others."""
    arrangement: str = "scattered"
    """Where areas lie: scattered, or contiguous (connected regions of the grid)."""
    content_queries: bool = False
    """Let queries carry content too (Ψ and Ξ are trained)."""
    frames: int = 48
    """How many time points are recorded, evenly in the logarithm of the step."""
    precision: str = "float32"
    """float32 or float64."""
    device: str = "auto"
    """auto, cpu or cuda; auto takes CUDA where there is one."""
    out: Path = Path("results")
    """Folder for the result file and the picture."""
    keep_final_state: bool = True
    """Keep every patch's correlations at the end: most of the file, 8 to 15 MB at P = 1024."""
    anew: bool = False
    """Start anew where the checkpoint of an interrupted run cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Train one model per seed and draw what it learned: ``vitdyn run mae --help`` has the options."""


def run_experiment(objective: Any, options: RunOptions) -> int:
    """Carry out ``vitdyn run``."""
    from vitdyn.dynamics import Runtime
    from vitdyn.experiments import Experiment, run
    from vitdyn.experiments.cost import estimate_cost
    from vitdyn.observables import learned_regime
    from vitdyn.plotting import save_figure, summary_page

    training = _training(objective, options)
    runtime = Runtime(
        device=options.device, progress=True, keep_final_state=options.keep_final_state, anew=options.anew
    )
    named = objective.name if options.model == LAYER else f"{objective.name}-{options.model}"
    experiment = Experiment(name=named, training=training)
    # Refuses a run that does not fit before any file is touched.
    expected = estimate_cost(experiment, device=options.device)
    path = result_file(experiment, options.out)
    print(training.generator.layout.describe())
    when = "" if expected.seconds is None else f"about {duration(expected.seconds)} and "
    print(f"{options.seeds} seeds x {options.steps} steps: {when}{expected.mebibytes:.0f} MiB")
    trajectory = run(experiment, out=path, runtime=runtime)
    picture = save_figure(summary_page(trajectory), path.with_suffix(""))
    if "area_attention" in trajectory.dataset:
        regimes = Counter(map(str, learned_regime(trajectory))).items()
        print(f"learned  {'; '.join(f'{name}: {count} of {options.seeds} seeds' for name, count in regimes)}")
    if options.metrics:
        print(_metric_table(trajectory, options.metrics))
    print(f"result   {path}\npicture  {picture}")
    return 0


def _training(objective: Any, options: RunOptions) -> Any:
    """Return the specification of the run."""
    from vitdyn.data import PatchLayout
    from vitdyn.dynamics import Schedule, Training
    from vitdyn.observables import RECORD
    from vitdyn.observables.catalogue import as_observables

    require_integer("patches", options.patches, at_least=2)
    # Metrics of space need a grid; a square number of patches has one.
    side = isqrt(options.patches)
    layout = PatchLayout.from_exponents(
        options.patches,
        options.kappa_c,
        options.kappa_s,
        clusters=options.clusters,
        arrangement=options.arrangement,
        grid=(side, side) if side**2 == options.patches else None,
    )
    return Training(
        generator=generator_of(options, layout, distribution_of(options)),
        objective=objective,
        optimizer=_descent(options, lambda: objective.default_learning_rate(layout)),
        steps=options.steps,
        batch_size=options.batch_size,
        seeds=options.seeds,
        schedule=Schedule(frames=options.frames),
        dataset_size=options.dataset_size,
        observables=(*RECORD, *as_observables("metrics", options.metrics)),
        content_queries=options.content_queries,
        precision=options.precision,
        model=model_of(options),
    )


def _metric_table(trajectory: Any, names: tuple[str, ...]) -> str:
    """Return each metric at the start and at the end, means over seeds."""
    rows = [
        (name, *(float(trajectory[name].isel(frame=frame).mean()) for frame in (0, -1))) for name in names
    ]
    return text_table(("metric", "at the start", "at the end"), rows)


def _descent(options: RunOptions, natural: Callable[[], float]) -> Any:
    from vitdyn.dynamics import OPTIMIZERS

    require_choice("optimizer", options.optimizer, OPTIMIZERS)
    default = {"gradient": natural, "momentum": lambda: natural() / 10, "adam": lambda: 0.05}
    rate = options.learning_rate
    if rate is None and options.optimizer not in default:
        raise invalid_value("learning_rate", None, f"{options.optimizer} has no default: give one")
    return OPTIMIZERS[options.optimizer](learning_rate=default[options.optimizer]() if rate is None else rate)
