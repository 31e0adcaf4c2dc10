"""The limit of many patches: visible counts at their means, other local areas by their law of large numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from vitdyn._errors import (
    invalid_value,
    require_boolean,
    require_integer,
    require_kind,
    require_real,
    require_sequence,
)
from vitdyn._memory import LAST_STEP, MOST_FRAMES, require_fits
from vitdyn.data import AreaSizes, Distribution, Uniform
from vitdyn.objectives import MaskedReconstruction, Objective, Reduction
from vitdyn.objectives.contract import require_reduction
from vitdyn.reduced.attention import ORDER_PARAMETERS, POSITION_PARAMETERS
from vitdyn.reduced.quadrature import MOST_NODES, quadrature
from vitdyn.reduced.right_hand_side import RightHandSide

LARGEST = 10**15
"""Clusters and negatives: whole numbers up to it are exact in float64."""


class StalledFlowError(ArithmeticError):
    """A flow that did not get where it was asked to go: it stalled, went stiff or left the finite numbers.

    ``spec`` is the run, ``time`` how far it was followed without reaching its aim.
    """

    def __init__(self, message: str, spec: MeanField, time: float) -> None:
        super().__init__(message)
        self.spec, self.time = spec, time


@dataclass(frozen=True, kw_only=True)
class MeanField:
    """A training run in the limit of many patches, as an ordinary differential equation for order parameters.

    By symmetry a local query needs φ_1 (to the global area), φ_a (to its own), φ_o (to another local area), a
    global query φ_1 and φ_o. Visible counts are replaced by their exact means, for reconstruction those that a masked
    query finds, (1 − γ)P/(P − 1) times C_j and, in its own area, times C_j − 1; for contrast those of all queries,
    (1 − γ)C_j. Sums over the other local areas are replaced by their number times the expectation over z, and the
    ``negatives`` of contrast by their mean: a share 1/K of them comes from the own cluster. Counts spread by a relative
    C_s^{−1/2} in a sample, which changes mean drifts by the order 1/C_s and smaller. With ``position_correlations``
    (one cluster only) Υ to the global, own and other areas moves too; Υ_self, a share 1/P of a row, is
    taken for Υ to the query's own area.

    The flow ends where the attention that the objective is about reaches ``until`` (None: where nothing moves
    any more); ``learning_rate`` asks for plain gradient descent with a finite step instead. ``nodes`` is
    the number of quadrature nodes for each latent, ``tolerance`` the error that a step of the flow may have in log t
    and in an order parameter, relative to 1 + |entry|, ``frames`` how many time points are recorded.
    Source: our notes, ``mean_field.md``.

    >>> sizes = vd.AreaSizes.from_exponents(1e16, kappa_c=0.9, kappa_s=0.3)
    >>> vd.MeanField(sizes=sizes, until=0.9).until
    0.9
    """

    sizes: AreaSizes
    objective: Objective = field(default_factory=MaskedReconstruction)
    latents: Distribution = field(default_factory=Uniform)
    clusters: int = 1
    negatives: int = 64
    position_correlations: bool = False
    until: float | None = 0.99
    learning_rate: float | None = None
    steps: int = 10_000
    nodes: int = 24
    tolerance: float = 1e-5
    frames: int = 96

    def __post_init__(self) -> None:
        require_kind("sizes", self.sizes, AreaSizes)
        # Refuses an objective that the mean field does not know.
        _ = self.reduction
        require_boolean("position_correlations", self.position_correlations)
        require_integer("clusters", self.clusters, at_least=1, at_most=LARGEST)
        require_integer("negatives", self.negatives, at_least=1, at_most=LARGEST)
        require_integer("nodes", self.nodes, at_least=2, at_most=MOST_NODES)
        require_real("tolerance", self.tolerance, low=1e-12, high=1e-2)
        require_integer("frames", self.frames, at_least=2, at_most=MOST_FRAMES)
        require_integer("steps", self.steps, at_least=1, at_most=LAST_STEP)
        if self.until is not None:
            require_real("until", self.until, low=0.0, high=1.0, open_low=True, open_high=True)
        if self.learning_rate is not None:
            require_real("learning_rate", self.learning_rate, low=0.0, high=1e300, open_low=True)
        self._check_views()
        if self.position_correlations and self.clusters > 1:
            words = "Υ is shared by the clusters, whose partitions differ: take clusters=1"
            raise invalid_value("position_correlations", True, words)
        # Refuses latents that have no rule.
        quadrature(self.latents, self.nodes)

    def _check_views(self) -> None:
        """Refuse masks of less than a patch, and second views whose counts are not those of the first."""
        ratio, patches = float(self.objective.masking().ratio), self.sizes.patches
        if min(ratio, 1 - ratio) * patches < 1:
            words = f"must mask and show at least one of {patches:g} patches"
            raise invalid_value("objective.mask_ratio", ratio, words)
        if self.objective.masking().complementary and ratio != 0.5:
            words = "the mean field takes both views alike: take independent ones, or mask_ratio=0.5"
            raise invalid_value("objective.views", "complementary", words)

    @property
    def reduction(self) -> Reduction:
        """The loss as a sum of those that the mean field knows."""
        return require_reduction(self.objective)

    @property
    def weight(self) -> float:
        """λ, the share of contrast: 0 for masked reconstruction, 1 for contrast."""
        return self.reduction.contrast

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the entries of a state."""
        return ORDER_PARAMETERS + (POSITION_PARAMETERS if self.position_correlations else ())

    @cached_property
    def right_hand_side(self) -> RightHandSide:
        """The −gradient of the objective as a function of the state."""
        sizes, reduction = self.sizes, self.reduction
        ratio = float(self.objective.masking().ratio)
        return RightHandSide(
            rule=quadrature(self.latents, self.nodes),
            mask_ratio=ratio,
            patches=sizes.patches,
            global_size=sizes.global_size,
            local_size=sizes.local_size,
            local_areas=sizes.local_areas,
            contrast_alone=reduction.all_queries,
            temperature=float(reduction.temperature),
            decay=float(self.objective.weight_decay),
            weight=self.weight,
            # The mixture takes the mean over masked patches of the reconstruction error, masked reconstruction its sum.
            reconstruction_scale=1 / (ratio * sizes.patches) if reduction.per_masked_patch else 1.0,
            clusters=float(self.clusters),
            negatives=float(self.negatives),
            position_correlations=self.position_correlations,
        )


ARRAYS = 60
"""Arrays of a number for each pair of nodes that are in memory at once while a drift is evaluated."""


def require_alike(specs: Sequence[MeanField], *shared: str, max_active: int | None = None) -> None:
    """Raise ``ValueError`` unless runs can go in one batch; ``shared`` names further fields that must agree.

    ``max_active`` is how many of them are held at once, if not all.
    """
    require_sequence("specs", specs, "MeanField")
    if not len(specs):
        raise invalid_value("specs", specs, "must be one or more")
    for spec in specs:
        require_kind("specs", spec, MeanField)
    # Counted off the rules, not the specs: latents of one or two values have as many nodes, whatever was asked.
    nodes = specs[0].right_hand_side.rule.nodes.size
    together: dict[str, set[Any]] = {
        "objective": {spec.objective.name for spec in specs},
        "nodes": {spec.right_hand_side.rule.nodes.size for spec in specs},
        **{name: {getattr(spec, name) for spec in specs} for name in ("position_correlations", *shared)},
    }
    for name, values in together.items():
        if len(values) > 1:
            words = "must be the same in all runs: take one batch for each"
            raise invalid_value(f"specs.{name}", sorted(values), words)
    field, held = ("specs", len(specs)) if max_active is None else ("max_active", min(max_active, len(specs)))
    remedy = f"take fewer at once, or fewer than {nodes} nodes"
    require_fits(field, held, 8.0 * ARRAYS * nodes**2 * held, remedy)
