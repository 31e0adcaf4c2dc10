"""The exact reduction: training in order parameters alone, with drawn latents and visible counts, no P × P array."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral

import numpy as np
import torch

from vitdyn._errors import (
    invalid_value,
    require_boolean,
    require_choice,
    require_integer,
    require_kind,
    require_real,
    require_sequence,
)
from vitdyn._memory import LAST_STEP, MOST_FRAMES, require_fits
from vitdyn._progress import progress as shown
from vitdyn.data import Distribution, PatchGenerator, PatchLayout, Uniform
from vitdyn.objectives import Objective
from vitdyn.objectives.contract import require_reduction
from vitdyn.observables import Schedule
from vitdyn.reduced.by_block import Frame, observe_blocks
from vitdyn.reduced.counted_gradient import CountedBatch, Rows, counted_gradient, mean_attention
from vitdyn.reduced.record import assemble
from vitdyn.reduced.symmetry import OrderParameters, Symmetry
from vitdyn.seeds import counted_seeds, stream
from vitdyn.trajectory import Trajectory

QUERIES = ("representatives", "all")


@dataclass(frozen=True, kw_only=True)
class ExactReduction:
    """A run of gradient descent on the order parameters of a layout, from Q = 0: exact in expectation at any P.

    Positions and areas that the symmetry of the data leaves interchangeable share one number each, so that a step
    costs what the number of areas says and not P. Given the visible counts, its drift is that of the full model on
    its symmetric states, without approximation (``theory_notes/mean_field.md``); what it leaves out is that batches
    of a full simulation move their patches apart.

    Each step draws ``batch_size`` samples per seed and moves by ``learning_rate`` (None: the objective's own) times
    the symmetrised −gradient, see ``sampled_gradient``; ``queries`` says from which rows. ``seeds`` is a count or
    the seeds themselves; ``frames`` states are recorded, evenly in the logarithm of the step.

    >>> layout = vd.PatchLayout.from_exponents(4096, kappa_c=0.9, kappa_s=0.4)
    >>> spec = vd.ExactReduction(layout=layout, objective=vd.MaskedReconstruction(), steps=3, seeds=1)
    >>> vd.run(vd.Experiment(name="reduced", training=spec))["step"].to_numpy()[-1]
    np.int64(3)
    """

    layout: PatchLayout
    objective: Objective
    latents: Distribution = field(default_factory=Uniform)
    steps: int = 400
    batch_size: int = 32
    seeds: int | tuple[int, ...] = 8
    learning_rate: float | None = None
    frames: int = 48
    queries: str = "representatives"

    def __post_init__(self) -> None:
        PatchGenerator(layout=self.layout, latents=self.latents)
        require_reduction(self.objective)
        require_integer("steps", self.steps, at_least=0, at_most=LAST_STEP)
        require_integer("batch_size", self.batch_size, at_least=1)
        require_integer("frames", self.frames, at_least=2, at_most=MOST_FRAMES)
        require_choice("queries", self.queries, QUERIES)
        if self.learning_rate is not None:
            require_real("learning_rate", self.learning_rate, low=0.0, high=1e12)
        seeds = counted_seeds(self.seeds)
        if not isinstance(self.seeds, Integral):
            object.__setattr__(self, "seeds", seeds)
        self._check_memory()
        self.objective.check(self.layout, self.batch_size)

    def _check_memory(self) -> None:
        """Refuse what is predicted to take more memory than there is: a step's samples, or the frames of all seeds."""
        areas, clusters = self.layout.areas, self.layout.clusters
        # A block is one combination of areas, and holds one position at least.
        blocks = min(self.layout.patches, areas**clusters)
        batch = 8.0 * (3 * blocks + 2 * areas) * self.batch_size
        require_fits("batch_size", self.batch_size, batch, "take fewer samples a step")
        frames, seeds = min(self.frames, self.steps + 2), len(self.seed_numbers)
        kept = frames * 96.0 * clusters * areas**2 + 16.0 * blocks * (blocks + clusters * areas)
        require_fits("seeds", seeds, seeds * kept, "take fewer seeds or frames, or run them in parts")

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        """The seeds."""
        return counted_seeds(self.seeds)

    @property
    def generator(self) -> PatchGenerator:
        """The data distribution."""
        return PatchGenerator(layout=self.layout, latents=self.latents)

    @property
    def rate(self) -> float:
        """The learning rate, the objective's own filled in."""
        own = self.objective.default_learning_rate(self.layout)
        return own if self.learning_rate is None else float(self.learning_rate)

    @property
    def recorded_steps(self) -> tuple[int, ...]:
        """The steps to record: 0, the last, and those between evenly in the logarithm."""
        return Schedule(frames=self.frames).recorded_steps(self.steps)


def draw_counts(
    symmetry: Symmetry,
    generator: PatchGenerator,
    objective: Objective,
    batch_size: int,
    seed: int,
    *,
    step: int = 0,
    purpose: str = "",
) -> CountedBatch:
    """Draw samples of the data and, for each view, how many positions of each block are visible.

    The counts are multivariate hypergeometric: P − m draws without replacement from blocks of the given sizes.
    Latents and clusters are those of ``generator.sample`` for this seed, step and purpose.
    """
    if generator.departures:
        field = generator.departures[0]
        remedy = "the reduction is of the theory's data: simulate any other"
        raise invalid_value(f"generator.{field}", getattr(generator, field), remedy)
    patches, sizes = symmetry.layout.patches, symmetry.block_sizes
    masking = objective.masking()
    visible = patches - masking.masked(patches)
    # Counts have a stream of their own: latents and clusters stay those of a simulation with this seed.
    masks = stream(seed, f"{purpose}masks", step)
    draw = partial(masks.multivariate_hypergeometric, sizes, visible, size=batch_size, method="marginals")
    views = [draw()]
    if objective.view_count == 2:
        views.append(sizes - views[0] if masking.complementary else draw())
    batch = generator.sample(batch_size, (seed,), step=step, purpose=purpose)
    return CountedBatch(batch.cluster[0].numpy(), batch.latents[0].numpy(), tuple(views))


def sampled_gradient(
    symmetry: Symmetry,
    order: OrderParameters,
    generator: PatchGenerator,
    objective: Objective,
    batch_size: int,
    seeds: Sequence[int],
    step: int = 0,
    *,
    queries: str = "representatives",
) -> OrderParameters:
    """Return an unbiased estimate of the velocity of the order parameters: the symmetrised −gradient.

    Its distribution is that of −∂L/∂Q, averaged over each class, on a batch of ``batch_size`` samples with full masks,
    averaged over the exchange of positions within each block: given the visible count v of a block of n positions, a
    position is masked with probability 1 − v/n and the formulas of ``gradients.md`` need nothing else. ``queries``
    "all" takes the rows of all blocks, "representatives" one block of each class of positions: of the same
    expectation, and cheaper by the number of areas, with more noise. Contrast pools over all queries and takes
    them all in any case; its negatives come from the batch. Row s of ``order`` belongs to ``seeds[s]``.

    Cost: ``batch_size`` times query blocks times blocks, whatever P is. Raises ``ValueError`` where the seeds or the
    layouts do not match, or for an objective that is none of masked reconstruction, contrast and their mixture.
    """
    require_choice("queries", queries, QUERIES)
    require_kind("symmetry", symmetry, Symmetry)
    require_kind("order", order, OrderParameters)
    require_kind("generator", generator, PatchGenerator)
    require_reduction(objective)
    require_integer("batch_size", batch_size, at_least=1)
    require_sequence("seeds", seeds, "whole numbers")
    if generator.layout != symmetry.layout:
        layout = generator.layout.describe()
        raise invalid_value("generator.layout", layout, "must be the layout of the symmetry")
    if len(order.feature) != len(seeds):
        raise invalid_value("seeds", tuple(seeds), f"order has {len(order.feature)} rows: one for each seed")
    # Contrast pools over all queries, so that it has every row at hand anyway.
    few = symmetry.representatives if queries == "representatives" and objective.view_count == 1 else None
    # Seed by seed, so that a seed's bits do not depend on its neighbours.
    parts = []
    for row, seed in enumerate(seeds):
        batch = draw_counts(symmetry, generator, objective, batch_size, seed, step=step)
        parts.append(counted_gradient(symmetry, order, objective, batch, seed=row, queries=few))
    return parts[0].map(lambda *blocks: torch.cat(blocks), *parts[1:])


def descend(spec: ExactReduction, *, progress: bool = False) -> Trajectory:
    """Run plain gradient descent on the order parameters and record it in the words of a full simulation.

    Recorded, with the axes and meanings of the standard record: ``feature_position``, ``position_position``,
    ``position_position_self``, ``area_attention``, ``own_area_attention``. Minimum and maximum run over the blocks of
    an area; each block's attention is its mean over the evaluation samples and over its positions, where the full
    simulation takes the extremes of single positions. With ``progress`` the steps are shown.

    Raises ``ArithmeticError`` at the first recorded state that is not finite.
    """
    require_kind("spec", spec, ExactReduction)
    require_boolean("progress", progress)
    began = time.monotonic()
    symmetry, generator, seeds = Symmetry.of(spec.layout), spec.generator, spec.seed_numbers
    order, recorded, frames = symmetry.zeros(len(seeds)), spec.recorded_steps, []
    with shown(progress, spec.steps, "step") as bar:
        for step in range(spec.steps + 1):
            if step in recorded:
                if not (order.feature.isfinite().all() and order.position.isfinite().all()):
                    words = f"step {step}: the order parameters are not finite; lower the learning rate"
                    raise ArithmeticError(words)
                frames.append(_frame(spec, symmetry, order, step))
            if step < spec.steps:
                arguments = spec.objective, spec.batch_size, seeds, step
                velocity = sampled_gradient(symmetry, order, generator, *arguments, queries=spec.queries)
                order = order.map(lambda block, change: block + spec.rate * change, velocity)
                bar.update(1)
    steps = np.array(recorded)
    return assemble(
        spec,
        {name: np.stack([frame[name] for frame in frames]) for name in frames[0]},
        steps,
        steps * spec.rate,
        seeds=seeds,
        engine="exact reduction, gradient descent",
        seconds=time.monotonic() - began,
    )


def _frame(spec: ExactReduction, symmetry: Symmetry, order: OrderParameters, step: int) -> Frame:
    """Return the observables of all seeds at one state, on evaluation samples that no step sees."""
    every = np.arange(len(symmetry.block_sizes))
    # Every block is read, whatever rows the steps take: extremes run over all of them.
    frames = []
    for row, seed in enumerate(spec.seed_numbers):
        state = symmetry.tables(order, row)
        batch = draw_counts(
            symmetry, spec.generator, spec.objective, spec.batch_size, seed, step=step, purpose="evaluation "
        )
        attention = mean_attention(Rows(symmetry, state, every), batch, spec.objective)
        frames.append(observe_blocks(symmetry, state, *attention))
    return {name: np.stack([frame[name] for frame in frames]) for name in frames[0]}
