"""The observables that go by their names: in a ``Training``, in JSON, on the command line."""

from __future__ import annotations

import copyreg
from collections.abc import Iterable
from typing import Any

from vitdyn._errors import require_choice, require_kind, require_sequence
from vitdyn.models.model import CLOSED_FORMS
from vitdyn.observables.by_depth import depth_observables
from vitdyn.observables.by_head import BY_HEAD
from vitdyn.observables.convexity import convexity_observables
from vitdyn.observables.correction import TeacherCorrection
from vitdyn.observables.correlation_curvature import CORRELATION_CURVATURES
from vitdyn.observables.curvature import CURVATURE
from vitdyn.observables.layer_roles import LAYER_ROLES
from vitdyn.observables.metrics import metric_observables
from vitdyn.observables.observable import OBSERVABLES, Observable
from vitdyn.observables.standard import GRADIENT_NORMS, RECORD

CORRECTIONS = tuple(
    Observable(
        name=f"correction_{number}",
        compute=TeacherCorrection(number=number),
        symbol=symbol,
        meaning=f"of RC-MAE's second term and the teacher's lag: {meaning}",
        may_be_missing=True,
        needs=CLOSED_FORMS,
    )
    for number, symbol, meaning in (
        ("cosine", "cos(∇L_c, θ − θ̄)", "the cosine between gradient and lag"),
        ("strength", "‖∇L_c‖/‖θ − θ̄‖", "the norm of the gradient over that of the lag"),
    )
)
"""What RC-MAE's teacher takes back of its student's way, on inputs like those of training."""

METRICS: dict[str, Observable] = {each.name: each for each in metric_observables()}
"""The metrics of the field, on the default images."""

BY_DEPTH: dict[str, Observable] = {each.name: each for each in depth_observables()}
"""The metrics of the field by layer and head, on the default images."""

LANDSCAPE: dict[str, Observable] = CURVATURE | {each.name: each for each in convexity_observables()}
"""Numbers of the loss's landscape about the parameters."""

_LISTED = (
    *RECORD,
    *GRADIENT_NORMS,
    *CORRECTIONS,
    *CORRELATION_CURVATURES,
    *METRICS.values(),
    *LANDSCAPE.values(),
    *BY_HEAD.values(),
    *LAYER_ROLES.values(),
    *BY_DEPTH.values(),
)
OBSERVABLES.own.update({each.name: each for each in _LISTED})


def _own(name: str) -> Observable:
    return OBSERVABLES.own[name]


def _reduced(observable: Observable) -> Any:
    """Let pickle take vitdyn's own by name: several compute by a function that no module has."""
    return (_own, (observable.name,)) if observable.spec_name else observable.__reduce_ex__(2)


copyreg.pickle(Observable, _reduced)


def as_observables(field: str, value: Any) -> tuple[Observable, ...]:
    """Return observables, given as such or by their names. Raises ``ValueError`` for anything else."""
    if not isinstance(value, Iterable) or isinstance(value, (str, bytes)) or hasattr(value, "__array__"):
        require_sequence(field, value, "Observables or their names")
    found = []
    for index, each in enumerate(value):
        if isinstance(each, str):
            require_choice(f"{field}[{index}]", each, OBSERVABLES)
            each = OBSERVABLES[each]
        require_kind(f"{field}[{index}]", each, Observable)
        found.append(each)
    return tuple(found)
