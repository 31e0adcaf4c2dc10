"""What is minimised: each objective is a differentiable function of area attention.

To add one, write it in a file of its own and name it in ``OBJECTIVES``.
"""

from vitdyn._errors import wrong
from vitdyn.objectives.contrastive import Contrastive
from vitdyn.objectives.forms import is_unchanged
from vitdyn.objectives.joined import add_scaled, joined, members, per_seed
from vitdyn.objectives.masked_reconstruction import MaskedReconstruction
from vitdyn.objectives.mixture import Mixture
from vitdyn.objectives.objective import (
    Adjoint,
    ForwardPass,
    Memory,
    Objective,
    PooledAdjoint,
    autograd_adjoint,
)

OBJECTIVES: tuple[type[Objective], ...] = (MaskedReconstruction, Contrastive, Mixture)


def is_listed(objective: object) -> bool:
    """Return whether an objective is one of ``OBJECTIVES``, or made from one whose loss, decay and views it has."""
    return any(isinstance(objective, kind) and is_unchanged(objective, kind) for kind in OBJECTIVES)


def require_listed(objective: object, why: str) -> None:
    """Raise ``ValueError`` unless an objective is a listed one, its loss, decay and views as they are; say ``why``.

    For what knows these formulas by heart, as the reduction does.
    """
    if not is_listed(objective):
        known = ", ".join(kind.__name__ for kind in OBJECTIVES)
        raise wrong("objective", objective, f"must be one of {known}, with its own loss: {why}")


__all__ = [
    "OBJECTIVES",
    "Adjoint",
    "Contrastive",
    "ForwardPass",
    "MaskedReconstruction",
    "Memory",
    "Mixture",
    "Objective",
    "PooledAdjoint",
    "add_scaled",
    "autograd_adjoint",
    "is_listed",
    "joined",
    "members",
    "per_seed",
    "require_listed",
]
