"""What can be recorded of a run: a name, axes, a symbol, a meaning, and how it is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vitdyn._axes import (
    AREA,
    CLUSTER,
    FRAME,
    HEAD,
    KEY,
    KEY_AREA,
    LAYER,
    PATCH,
    QUERY,
    QUERY_AREA,
    SAMPLE,
    SEED,
    STATISTIC,
    STATISTICS,
    TRAINING_STEP,
)
from vitdyn._errors import (
    as_array,
    invalid_value,
    require_boolean,
    require_callable,
    require_choice,
    require_kind,
    require_sequence,
)
from vitdyn._registry import Registry
from vitdyn._specs import ADDED_LATER, encode
from vitdyn.data import PatchLayout
from vitdyn.models import Model
from vitdyn.models.model import OFFERS
from vitdyn.observables.state import ModelState

OBSERVABLES = Registry("observable", lambda entry: isinstance(entry, Observable), {})
"""Observables by name. JSON holds no more than that of vitdyn's own; of others all, and a digest of their code."""

TAKEN = {"step", "time", FRAME, SEED, STATISTIC, TRAINING_STEP}
"""Names of a trajectory's coordinates, which no observable may have; "final_..." is the last state's."""


@dataclass(frozen=True, kw_only=True)
class Observable:
    """A quantity that a run records at every frame, or with ``each_step`` before every step of training.

    ``compute(state)`` returns a tensor of real numbers with the axes ``axes``, of which the first is "seed"; its
    ``vitdyn.observables.ModelState`` offers the parameters, the batch, area attention, outputs, the loss and its
    gradient. Known axes are seed, cluster, area, query_area, key_area, statistic (mean, minimum, maximum), patch,
    query, key, sample, layer and head; any other has its values in ``coordinates``. A trajectory holds the
    observable under its ``name``, with ``frame`` before the other axes, or ``training_step`` behind the seed where it
    is recorded at ``each_step``.

    A value that does not exist is NaN: declare then ``may_be_missing``, else NaN at the first frame is an error. An
    observable is computed one seed at a time, so that no seed's bits depend on its neighbours, unless it is
    ``seed_independent``: promised to give each seed in a batch the very bits that it has alone. One that
    ``needs`` something of the model ("area attention", "correlations", ...: ``Model.offers``) exists for models that
    offer it alone. ``compute`` may be any frozen object that can be called; its
    own ``check(layout)``, if it has one, is called before a run begins.

    Raises ``ValueError`` for a bad field.

    >>> def confidence(state):
    ...     return state.attention[0].amax(2).mean((1, 2))
    >>> record = (*vd.RECORD, vd.Observable(name="confidence", compute=confidence, meaning="largest A of a query"))
    >>> generator = vd.PatchGenerator(layout=vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5))
    >>> objective = vd.MaskedReconstruction()
    >>> training = vd.Training(generator=generator, objective=objective, observables=record, steps=9)
    >>> vd.simulate(training)["confidence"].dims
    ('frame', 'seed')
    """

    name: str
    compute: Callable[[ModelState], Tensor]
    axes: tuple[str, ...] = (SEED,)
    symbol: str = ""
    meaning: str = ""
    coordinates: Mapping[str, Sequence[Any]] = field(default_factory=dict, hash=False)
    each_step: bool = False
    may_be_missing: bool = False
    seed_independent: bool = False
    needs: str = field(default="", metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            remedy = "must be a name as in Python: letters, digits and _"
            raise invalid_value("Observable.name", self.name, remedy)
        if self.name in TAKEN | _sizes(None).keys() or self.name.startswith("final_"):
            remedy = "is the name of something else that a trajectory holds"
            raise invalid_value("Observable.name", self.name, remedy)
        require_callable(f"{self.name}.compute", self.compute)
        if isinstance(self.compute, type) or type(self.compute).__hash__ is None:
            raise invalid_value(f"{self.name}.compute", self.compute, "must be a function or a frozen object")
        for text in ("symbol", "meaning"):
            require_kind(f"{self.name}.{text}", getattr(self, text), str)
        for flag in ("each_step", "may_be_missing", "seed_independent"):
            require_boolean(f"{self.name}.{flag}", getattr(self, flag))
        require_choice(f"{self.name}.needs", self.needs, ("", *OFFERS))
        self._take_axes()

    def _take_axes(self) -> None:
        where = f"{self.name}.axes"
        require_sequence(where, self.axes, "names of axes")
        if not all(isinstance(axis, str) for axis in self.axes):
            raise invalid_value(where, self.axes, "must be names of axes")
        object.__setattr__(self, "axes", tuple(self.axes))
        self._take_coordinates()
        if self.axes[:1] != (SEED,) or len(set(self.axes)) < len(self.axes):
            raise invalid_value(where, self.axes, 'must begin with "seed" and name no axis twice')
        for axis in self.axes:
            if axis not in _sizes(None).keys() | self.coordinates.keys():
                raise invalid_value(where, axis, "is no known axis: give its values in coordinates")

    def _take_coordinates(self) -> None:
        own: dict[str, tuple[Any, ...]] = {}
        require_kind(f"{self.name}.coordinates", self.coordinates, Mapping)
        for axis, values in self.coordinates.items():
            where = f"{self.name}.coordinates[{axis!r}]"
            if axis not in self.axes or axis in _sizes(None) or axis in TAKEN:
                raise invalid_value(where, values, "must be those of an axis of its own")
            require_sequence(where, values, "numbers or texts")
            array = as_array(where, values)
            if array.ndim != 1 or array.dtype.kind not in "iufU" or not len(array):
                raise invalid_value(where, values, "must be numbers or texts along one axis")
            own[axis] = tuple(array.tolist())
        object.__setattr__(self, "coordinates", own)

    @property
    def spec_name(self) -> str | None:
        """The name by which JSON knows it: of one of vitdyn's own, as it was made."""
        return self.name if OBSERVABLES.own.get(self.name) == self else None

    @classmethod
    def from_spec(cls, value: Mapping[str, Any]) -> Observable | None:
        """Return the listed observable that ``encode`` turned into ``value``, None where there is none."""
        listed = OBSERVABLES.get(str(value.get("name")))
        return listed if listed is not None and encode(listed) == value else None

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The axes in a trajectory."""
        return (SEED, TRAINING_STEP, *self.axes[1:]) if self.each_step else (FRAME, *self.axes)

    @property
    def attributes(self) -> dict[str, str]:
        """What a trajectory says of it."""
        return {"symbol": self.symbol, "long_name": self.meaning}

    def shape(self, layout: PatchLayout, model: Model, seeds: int, samples: int) -> tuple[int, ...]:
        """Return the shape of what ``compute`` must give."""
        sizes = _sizes(layout) | {SEED: seeds, SAMPLE: samples, LAYER: model.layers, HEAD: model.heads}
        sizes |= {axis: len(values) for axis, values in self.coordinates.items()}
        return tuple(sizes[axis] for axis in self.axes)

    def of(self, state: ModelState) -> Tensor:
        """Return the values of all seeds of a state. Raises ``ValueError`` unless they are what is declared."""
        # of a user's formula nobody knows whether its sums depend on how many seeds there are: each seed by itself
        states = (state,) if self.seed_independent or len(state.owners) == 1 else state.of_seeds
        with torch.no_grad():
            found = [self._checked(self.compute(each), each) for each in states]
        return found[0] if len(found) == 1 else torch.cat(found)

    def _checked(self, found: Any, state: ModelState) -> Tensor:
        shape = self.shape(state.batch.layout, state.model, len(state.owners), state.batch.count)
        what = f"{tuple(found.shape)} {found.dtype}" if isinstance(found, Tensor) else type(found).__name__
        if not isinstance(found, Tensor) or tuple(found.shape) != shape or not found.is_floating_point():
            raise invalid_value(
                self.name, what, f"must be a tensor of real numbers of shape {shape}: {', '.join(self.axes)}"
            )
        # later a NaN may be the model's, and divergence is told of by itself
        if state.step == 0 and not self.may_be_missing and found.isnan().any():
            raise invalid_value(
                self.name, "NaN at the first frame", "declare may_be_missing=True if a value may not exist"
            )
        return found


def observe(state: ModelState, observables: Iterable[Observable]) -> dict[str, Tensor]:
    """Return the values of observables of a state, by name."""
    return {each.name: each.of(state) for each in observables}


def _sizes(layout: PatchLayout | None) -> dict[str, int]:
    """Return the known axes and their sizes in a layout."""
    patches, areas, clusters = (layout.patches, layout.areas, layout.clusters) if layout else (0, 0, 0)
    by_area = dict.fromkeys((AREA, QUERY_AREA, KEY_AREA), areas)
    by_patch = dict.fromkeys((PATCH, QUERY, KEY), patches)
    others = {CLUSTER: clusters, STATISTIC: len(STATISTICS), SEED: 0, SAMPLE: 0, LAYER: 0, HEAD: 0}
    return {**by_area, **by_patch, **others}


def check_observables(observables: Sequence[Observable], layout: PatchLayout) -> None:
    """Raise ``ValueError`` where observables of one run clash, or do not exist on a layout."""
    names = [each.name for each in observables]
    axes: dict[str, Any] = {}
    for each in observables:
        if names.count(each.name) > 1:
            raise invalid_value("observables", each.name, "is the name of two: each needs its own")
        for axis, values in each.coordinates.items():
            if axis in names or axes.setdefault(axis, values) != values:
                where = f"{each.name}.coordinates"
                raise invalid_value(where, axis, "is the name of something else in this run")
        check = getattr(each.compute, "check", None)
        if check is not None:
            check(layout)
