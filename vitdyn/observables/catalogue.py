"""The observables that go by their names: in a ``Training``, in JSON, on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vitdyn._errors import require_choice, require_kind, require_sequence, wrong
from vitdyn._registry import OBJECTS
from vitdyn.observables.metrics import metric_observables
from vitdyn.observables.observable import BUILT_IN, REGISTERED, Observable
from vitdyn.observables.standard import GRADIENT_NORMS, RECORD

METRICS: dict[str, Observable] = {each.name: each for each in metric_observables()}
"""The metrics of the field, on the default images."""

BUILT_IN.update({each.name: each for each in (*RECORD, *GRADIENT_NORMS, *METRICS.values())})


def known_observables() -> dict[str, Observable]:
    """Return what can be named: the standard record, norms of gradients, metrics, and what was registered."""
    return {**BUILT_IN, **REGISTERED}


def register_observable(observable: Observable) -> Observable:
    """Let an observable go by its name, as vitdyn's own do; another of that name replaces it.

    Raises ``ValueError`` for the name of one of vitdyn's own.
    """
    require_kind("observable", observable, Observable)
    if observable.name in BUILT_IN:
        raise wrong("observable.name", observable.name, "is the name of one of vitdyn's own: take another")
    REGISTERED[observable.name] = observable
    return observable


OBJECTS[Observable] = register_observable


def as_observables(field: str, value: Any) -> tuple[Observable, ...]:
    """Return observables, given as such or by their names. Raises ``ValueError`` for anything else."""
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes)) or hasattr(value, "__array__"):
        require_sequence(field, value, "Observables or their names")
    known, found = known_observables(), []
    for index, each in enumerate(value):
        if isinstance(each, str):
            require_choice(f"{field}[{index}]", each, known)
            each = known[each]
        require_kind(f"{field}[{index}]", each, Observable)
        found.append(each)
    return tuple(found)
