"""What is minimised: each objective is a differentiable function of area attention.

To add one, write it in a file of its own and name it in ``OBJECTIVES``.
"""

from vitdyn.objectives.contrastive import Contrastive
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
    "joined",
    "members",
    "per_seed",
]
