"""A claim with everything that is needed to test it, and the verdict of a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from math import isinf, isnan
from typing import NamedTuple, Self

from vitdyn._errors import as_tuple, invalid_value, require_callable, require_kind, require_real
from vitdyn._notebook import html_table
from vitdyn.dynamics import Training
from vitdyn.experiments import Experiment
from vitdyn.models import Model, OneLayer
from vitdyn.reduced import ExactReduction, MeanField
from vitdyn.trajectory import Trajectory
from vitdyn.vits import Landscape

SUPPORTED, REFUTED, INCONCLUSIVE = "SUPPORTED", "REFUTED", "INCONCLUSIVE"
SCALES = ("quick", "full")

Interval = tuple[float, float]

BASES: dict[type, str] = {
    Training: "full simulation",
    ExactReduction: "exact reduction",
    MeanField: "mean field",
    Landscape: "small Vision Transformers",
}
"""What a claim may be judged on, and how a verdict calls it."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What one verdict is made of: a run, or several that are read together (a sweep of P, say).

    >>> sizes = vd.AreaSizes.from_exponents(1e8, kappa_c=0.9, kappa_s=0.3)
    >>> vd.Case.of(vd.Experiment(name="limit", training=vd.MeanField(sizes=sizes))).basis
    'mean field'
    """

    name: str
    runs: tuple[Experiment, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise invalid_value("Case.name", self.name, "must be a name that is not blank")
        if not isinstance(self.runs, tuple) or not self.runs:
            raise invalid_value("Case.runs", self.runs, "must be a tuple of one experiment or more")
        as_tuple("Case.runs", self.runs, Experiment)

    @classmethod
    def of(cls, experiment: Experiment) -> Case:
        """Return the case of a single run, under the run's own name."""
        require_kind("experiment", experiment, Experiment)
        return cls(name=experiment.name, runs=(experiment,))

    @property
    def specs(self) -> tuple[Training | MeanField | ExactReduction, ...]:
        """What its runs simulate or integrate, where all are of the theory's layer."""
        kinds = Training, MeanField, ExactReduction
        found = [run.training for run in self.runs if isinstance(run.training, kinds)]
        if len(found) < len(self.runs):
            raise invalid_value(
                "Case.runs",
                self.name,
                "must be simulations, reductions and mean-field flows of the theory's layer",
            )
        return tuple(found)

    @property
    def landscapes(self) -> tuple[Landscape, ...]:
        """What its runs survey, where all are of small Vision Transformers."""
        found = [run.training for run in self.runs if isinstance(run.training, Landscape)]
        if len(found) < len(self.runs):
            raise invalid_value("Case.runs", self.name, "must be landscapes of small Vision Transformers")
        return tuple(found)

    @property
    def basis(self) -> str:
        """What its runs are: full simulation, exact reduction, mean field, small ViTs, or several of these.

        Of what model, where that is not the theory's layer, and on what data, where something was added to these.
        """
        kinds = {type(run.training) for run in self.runs}
        words = " and ".join(words for kind, words in BASES.items() if kind in kinds)
        specs = [run.training for run in self.runs if isinstance(run.training, Training)]
        others = dict.fromkeys(spec.model.describe() for spec in specs if spec.model != OneLayer())
        added = dict.fromkeys(field for spec in specs for field in spec.generator.departures)
        words = f"{words} of {' and '.join(others)}" if others else words
        return f"{words}, data with {', '.join(added)}" if added else words

    def on(self, model: Model) -> Self:
        """Return the case with ``model`` trained in place of its simulations' own, on the same data and seeds.

        Raises ``ValueError`` where a run is no simulation, or cannot be one of that model.
        """
        return replace(self, runs=tuple(_with_model(run, model) for run in self.runs))


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """A condition of a claim on the specifications of a case's runs: a sentence, and whether a case meets it."""

    sentence: str
    holds: Callable[[Case], bool]

    def __post_init__(self) -> None:
        require_callable("Assumption.holds", self.holds)


@dataclass(frozen=True, kw_only=True)
class Control(Case):
    """A case that must refute a claim.

    A near one keeps objective and data. Its runs lack the cause that the claim names alone (``removes`` is that cause
    where it is an assumption of the claim: the one assumption that the control may break), or they are those of a case
    and ``predicted`` is another prediction, of a theory that is wrong by little.

    >>> sizes = vd.AreaSizes.from_exponents(1e8, kappa_c=0.9, kappa_s=0.3)
    >>> run = vd.Experiment(name="limit", training=vd.MeanField(sizes=sizes))
    >>> wrong_theory = vd.Control(name="another level", runs=(run,), predicted=lambda case: (0.2, 0.3))
    """

    predicted: Callable[[Case], Interval] | None = None
    removes: Assumption | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.predicted is not None:
            require_callable("Control.predicted", self.predicted)
        if self.removes is not None:
            require_kind("Control.removes", self.removes, Assumption)


class Measurement(NamedTuple):
    """A number read off the runs of a case, its interval [low, high], and how many values it was made from.

    ``of`` says what the interval is of: the spread of seeds, the integrator's error. A ``reason`` says why the runs
    do not decide; the verdict is then inconclusive, whatever the numbers.

    >>> vd.Measurement(value=0.96, low=0.95, high=0.97, count=8, of="the spread of seeds").high
    0.97
    """

    value: float
    low: float
    high: float
    count: int  # type: ignore[assignment]  # a field of this name hides the method of tuples
    of: str
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of the theory as a check of finite runs.

    ``surrogate`` says how the asymptotic statement became finite; ``symbol`` names the number it speaks of.
    ``predicted`` gives the ends of the accepted open interval of that number (±inf where it has none), with
    margins that were written before the seeds that are judged ran (a flow has none: the notes say where its number was
    known before); ``measure`` gives the number, from the trajectories of
    the case's runs in their order, and may raise ``ArithmeticError`` where they give none. Of a case that breaks one
    of the ``assumptions`` the claim says nothing; they are what ``predicted`` and ``measure`` may rely on. ``cases``
    must support the claim and ``controls`` must refute it; both take a scale. ``latest`` is the time at which the
    claim is lost for a flow that has not arrived; without it a stalled flow decides nothing. ``symbols`` are what its
    own symbols mean, those that ``vitdyn.claims.symbols`` lacks or that mean something else here.

    >>> generator = vd.PatchGenerator(layout=vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5))
    >>> def case_of(objective):
    ...     training = vd.Training(generator=generator, objective=objective, steps=80, seeds=4)
    ...     return vd.Case.of(vd.Experiment(name=objective.name, training=training))
    >>> def least_own_attention(case, trajectories):
    ...     least = trajectories[0].final["own_area_attention"].sel(statistic="minimum")
    ...     return vd.over_seeds(least.min(("cluster", "query_area")).to_numpy())
    >>> claim = vd.Claim(
    ...     id="OWN-AREA", statement="Masked reconstruction attends to every area.", source="an example",
    ...     note="", assumptions=(), surrogate="P = 16, 80 steps", symbol="min A_own",
    ...     predicted=lambda case: (0.5, 1.0), measure=least_own_attention,
    ...     cases=lambda scale: (case_of(vd.MaskedReconstruction()),),
    ...     controls=lambda scale: (case_of(vd.Contrastive()),),
    ... )
    >>> [verdict.status for verdict in vd.check([claim], vd.run)]
    ['SUPPORTED', 'REFUTED']
    """

    id: str
    statement: str
    source: str
    note: str
    assumptions: tuple[Assumption, ...]
    surrogate: str
    symbol: str
    predicted: Callable[[Case], Interval]
    measure: Callable[[Case, tuple[Trajectory, ...]], Measurement]
    cases: Callable[[str], tuple[Case, ...]]
    controls: Callable[[str], tuple[Case, ...]]
    latest: Callable[[MeanField], float] | None = None
    symbols: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        as_tuple("Claim.assumptions", self.assumptions, Assumption)
        for name in ("predicted", "measure", "cases", "controls", *["latest"] * (self.latest is not None)):
            require_callable(f"Claim.{name}", getattr(self, name))
        if not isinstance(self.symbols, Mapping) or not all(map(_is_text, chain(*self.symbols.items()))):
            raise invalid_value("Claim.symbols", self.symbols, "must map symbols to what they mean")

    def on(self, model: Model) -> Claim:
        """Return the claim as it is judged on another model: that model is trained in its cases and its controls.

        Statement, data, seeds, prediction and margins stay, and verdicts name the model (``Verdict.basis``). Raises
        ``ValueError`` where the claim says nothing of the model: it is judged on the mean field, or reads what the
        model lacks.

        >>> claim = next(claim for claim in vd.CLAIMS if claim.id == "MAE-AREA")
        >>> claim.on(vd.Transformer(heads=4)).cases("quick")[0].basis
        'full simulation of transformer, heads=4'
        """
        require_kind("model", model, Model)
        moved = replace(
            self,
            cases=lambda scale: tuple(case.on(model) for case in self.cases(scale)),
            controls=lambda scale: tuple(case.on(model) for case in self.controls(scale)),
        )
        try:
            every = (*moved.cases("quick"), *moved.controls("quick"))
            unmet = next(filter(None, map(moved.unmet, every)), "")
        except ValueError as error:
            unmet = str(error)
        if unmet:
            raise invalid_value("claim", self.id, f"is not judged on {model.describe()}: {unmet}")
        return moved

    @property
    def assumed(self) -> str:
        """The assumptions as sentences."""
        return " ".join(each.sentence for each in self.assumptions)

    def unmet(self, case: Case) -> str:
        """Return the sentences of the assumptions that a case breaks, but for the one that a control removes."""
        # A control without the cause breaks that assumption on purpose.
        removed = case.removes if isinstance(case, Control) else None
        return " ".join(
            each.sentence for each in self.assumptions if each is not removed and not each.holds(case)
        )

    def prediction(self, case: Case) -> Interval:
        """Return the interval that a case is judged by: the claim's own, or a control's altered one."""
        # A near control may have the case's own runs, judged by a theory that is wrong by little.
        altered = case.predicted if isinstance(case, Control) else None
        return (altered or self.predicted)(case)


VERDICT_COLUMNS = (
    "claim", "case", "judged on", "predicted", "measured  [interval]", "interval of", "count", "verdict", ""
)  # fmt: skip
"""What the cells of a verdict are."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one case says of one claim: predicted and measured interval, and the status.

    The prediction is the open interval from ``predicted_low`` to ``predicted_high``; ``measured`` has the
    closed interval [``low``, ``high``] and was made from ``count`` values. ``expected`` is the status that a
    sound theory and a sound program give: SUPPORTED, or REFUTED for a control. NaN stands for a number that
    there is not. ``basis`` says what was judged, full simulation or mean field, and ``interval_of`` what the
    interval is of.
    """

    claim: str
    case: str
    symbol: str
    predicted_low: float
    predicted_high: float
    measured: float
    low: float
    high: float
    count: int
    status: str
    expected: str
    basis: str
    interval_of: str
    reason: str = ""

    @property
    def is_control(self) -> bool:
        """Whether the case must refute the claim."""
        return self.expected == REFUTED

    @property
    def remark(self) -> str:
        """What the status alone does not say: whether a control is as it must be, and why nothing is decided."""
        as_it_must_be = "as it must be" if self.status == REFUTED else f"MUST BE {REFUTED}"
        parts = [f"control: {as_it_must_be}"] if self.is_control else []
        return "; ".join([*parts, *([self.reason] if self.reason else [])])

    @property
    def predicted(self) -> str:
        """The prediction in a few characters."""
        if isnan(self.predicted_low) or isnan(self.predicted_high):
            return f"{self.symbol}: no prediction"
        below, above = not isinf(self.predicted_low), not isinf(self.predicted_high)
        if below and above:
            return f"{self.predicted_low:g} < {self.symbol} < {self.predicted_high:g}"
        if above:
            return f"{self.symbol} < {self.predicted_high:g}"
        return f"{self.symbol} > {self.predicted_low:g}"

    @property
    def interval(self) -> str:
        """The measured number with its interval in a few characters."""
        return f"{short(self.measured)}  [{short(self.low)}, {short(self.high)}]"

    @property
    def cells(self) -> tuple[str, ...]:
        """What a table says of it, in the order of ``VERDICT_COLUMNS``."""
        return (
            self.claim, self.case, self.basis, self.predicted, self.interval, self.interval_of, str(self.count),
            self.status, self.remark,
        )  # fmt: skip

    def _repr_html_(self) -> str:
        return html_table("verdict", [self.cells], VERDICT_COLUMNS)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def short(value: float) -> str:
    """Return a number with four decimals, or with four digits where these would hide it."""
    return f"{value:.4f}" if value == 0 or 0.01 <= abs(value) < 10_000 else f"{value:.4g}"


def _with_model(run: Experiment, model: Model) -> Experiment:
    """Return a simulation in which another model is trained, under a name of its own."""
    if not isinstance(run.training, Training):
        basis = BASES[type(run.training)]
        raise invalid_value("run", run.name, f"is no simulation, which alone has a model, but {basis}")
    return Experiment(name=f"{run.name}-{model.name}", training=replace(run.training, model=model))


def moved(
    cases: tuple[Case, ...], predicted: Callable[[Case], Interval], by: float, words: str
) -> tuple[Control, ...]:
    """Return the cases as near controls: their runs, judged by a prediction whose ends are moved by ``by``."""
    require_callable("predicted", predicted)
    require_real("by", by, low=-1e300, high=1e300)

    def altered(case: Case) -> Interval:
        low, high = predicted(case)
        return low + by, high + by

    return tuple(
        Control(name=f"{case.name}, {words}", runs=case.runs, predicted=altered)
        for case in as_tuple("cases", cases, Case)
    )
