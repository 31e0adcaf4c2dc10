"""What the runs say, over seeds: values by depth, and differences whose signs are predicted, with intervals.

The findings about contrast and reconstruction are those of Park et al., *What Do Self-Supervised Vision Transformers
Learn?* (ICLR 2023); the effects of training by any method are compared with those on the theory's layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vitdyn._errors import as_array, as_tuple, invalid_value
from vitdyn._statistics import student_interval
from vitdyn._tables import text_table
from vitdyn.trajectory import Trajectory
from vitdyn.vits.methods import METHODS
from vitdyn.vits.pretraining import UNTRAINED
from vitdyn.vits.results import MEANINGS, by_depth, spec_of

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """Mean over seeds and the ends of its Student interval, by depth."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def interval(values: np.ndarray) -> Interval:
    """Return the mean over the first axis, seeds, ± t · s/√n, of 95 %; with a single seed the ends are infinite."""
    array = as_array("values", values)
    if array.dtype.kind not in "iuf" or not array.ndim or not len(array):
        raise invalid_value("values", values, "must be an array of numbers, one row or more")
    return Interval(*student_interval(array, CONFIDENCE))


def _as_records(records: Sequence[Trajectory]) -> tuple[Trajectory, ...]:
    if not (found := as_tuple("records", records, Trajectory)):
        raise invalid_value("records", records, "must hold at least one Trajectory")
    return found


def by_method(records: Sequence[Trajectory], name: str) -> dict[str, Float[np.ndarray, "seed depth"]]:
    """Return a variable by method, one row for each seed in rising order; the same seeds for all methods."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for record in _as_records(records):
        spec = spec_of(record)
        rows = found.setdefault(spec.method_name, {})
        if spec.seed in rows:
            words = "must hold each method and seed once"
            raise invalid_value("records", (spec.method_name, spec.seed), words)
        rows[spec.seed] = by_depth(record, name)
    # differences are paired by seed
    seeds = {method: sorted(rows) for method, rows in found.items()}
    if len({tuple(each) for each in seeds.values()}) > 1:
        raise invalid_value("records", seeds, "must hold the same seeds for each method")
    present = [method for method in (UNTRAINED, *METHODS) if method in found]
    return {method: np.stack([found[method][seed] for seed in seeds[method]]) for method in present}


def value_table(records: Sequence[Trajectory]) -> str:
    """Return all variables by method and depth, as mean ± half of the interval over seeds."""
    rows, depths = [], range(spec_of(_as_records(records)[0]).vit.depth + 1)
    for name in MEANINGS:
        for method, values in by_method(records, name).items():
            mean, _, high = interval(values)
            cells = [f"{m:.3f} ± {h - m:.3f}" for m, h in zip(mean, high, strict=True)]
            before = ["-"] * (len(depths) - len(cells))  # attention has no depth 0: it starts in block 1
            rows.append((name, method, *before, *cells))
    return text_table(("metric", "method", *(f"depth {depth}" for depth in depths)), rows)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A difference of a metric, paired by seed, and its predicted ``sign``: 1, −1, or 0 where nothing is predicted."""

    metric: str
    sign: int
    difference: Interval

    @property
    def status(self) -> str:
        """Whether the interval lies on the predicted side of 0, on the other side, or on neither."""
        if not self.sign:
            return "-"
        # turned so that the predicted side is the positive one
        low, high = (self.sign * end for end in (self.difference.low, self.difference.high))
        if max(low, high) < 0:
            return "opposite"
        return "as predicted" if min(low, high) > 0 else "open"

    @property
    def cells(self) -> tuple[object, ...]:
        """Predicted sign, mean and interval, and status, as tables show them (``_CELLS``)."""
        return ({1: "+", -1: "-"}.get(self.sign, ""), *map(float, self.difference), self.status)


_CELLS = ("predicted", "difference", "low", "high", "status")


@dataclass(frozen=True, kw_only=True)
class Finding(Difference):
    """A difference that Park et al. report: contrast minus reconstruction."""

    number: int
    statement: str
    values: dict[str, float]

    @property
    def mixture_between(self) -> str:
        """Whether the mean of the mixture lies strictly between the two others: "yes", "no" or, without one, "-"."""
        if "mixture" not in self.values:
            return "-"
        ends = sorted((self.values["reconstruction"], self.values["contrast"]))
        return "yes" if ends[0] < self.values["mixture"] < ends[1] else "no"


def _last(values: Float[np.ndarray, "seed depth"]) -> Float[np.ndarray, " seed"]:
    return values[:, -1]


def _late_gain(values: Float[np.ndarray, "seed depth"]) -> Float[np.ndarray, " seed"]:
    """The last depth minus the middle one (depth floor(layers/2))."""
    return values[:, -1] - values[:, (values.shape[1] - 1) // 2]


# written down before the runs; "far" and "alike" are read in the last block
_PREDICTED = (
    (1, "contrast attends farther in the last block", "attention_distance", +1, _last),
    (1, "its maps differ less from query to query", "mutual_information", -1, _last),
    (1, "its queries agree on the same keys", "top_key_scores", +1, _last),
    (1, "its tokens are alike at the end", "token_similarity", +1, _last),
    (2, "it keeps less of the high frequencies", "high_frequency", -1, _last),
    (3, "its later blocks add more to a linear probe", "linear_accuracy", +1, _late_gain),
)


def findings(records: Sequence[Trajectory]) -> list[Finding]:
    """Return the predicted differences with their intervals. Raises ``ValueError`` where a method is missing."""
    made = []
    for number, statement, metric, sign, reduce in _PREDICTED:
        values = {method: reduce(each) for method, each in by_method(records, metric).items()}
        if not {"contrast", "reconstruction"} <= set(values):
            raise invalid_value(
                "records", sorted(values), "must hold the methods contrast and reconstruction"
            )
        made.append(
            Finding(
                number=number,
                statement=statement,
                metric=metric,
                sign=sign,
                difference=interval(values["contrast"] - values["reconstruction"]),
                values={method: float(each.mean()) for method, each in values.items()},
            )
        )
    return made


# of a loss of patches, in the last block; written down before the runs, and the other way for one of whole images
_BY_PATCHES = {
    "mutual_information": +1,
    "high_frequency": +1,
    "token_similarity": -1,
    "attention_distance": -1,
}
_READS = {"patches": +1, "image": -1}


@dataclass(frozen=True, kw_only=True)
class Effect(Difference):
    """What training by a method does in the last block: trained minus untrained; ``value`` is the trained one."""

    method: str
    value: Interval


def effects(records: Sequence[Trajectory]) -> list[Effect]:
    """Return what each method did to attention and tokens. Raises ``ValueError`` without the untrained encoders.

    Predicted, after the theory's layer: a loss of single patches makes maps differ from query to query and keeps what
    is local; one of whole images makes them alike, for there such a loss moves all queries in the same way.
    """
    made = []
    for metric, sign in _BY_PATCHES.items():
        values = {method: _last(each) for method, each in by_method(records, metric).items()}
        if UNTRAINED not in values:
            raise invalid_value("records", sorted(values), f"must hold the {UNTRAINED} encoders too")
        start = values.pop(UNTRAINED)
        made += [
            Effect(
                method=method,
                metric=metric,
                sign=sign * _READS.get(METHODS[method].reads, 0),
                value=interval(each),
                difference=interval(each - start),
            )
            for method, each in values.items()
        ]
    return made


def effect_table(found: Sequence[Effect]) -> str:
    """Return the effects as a table."""
    rows = [
        (each.metric, each.method, float(each.value.mean), *each.cells)
        for each in as_tuple("found", found, Effect)
    ]
    return text_table(("last block", "method", "trained", *_CELLS), rows)


def finding_table(found: Sequence[Finding]) -> str:
    """Return the findings as a table."""
    rows = [
        (each.number, each.statement, each.metric, *each.cells, each.mixture_between)
        for each in as_tuple("found", found, Finding)
    ]
    return text_table(
        ("finding", "contrast against reconstruction", "metric", *_CELLS, "mixture between"), rows
    )
