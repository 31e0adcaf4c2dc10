"""What is minimised: each objective is a differentiable function of a model's outputs.

To add one, write it in a file of its own and ``register`` it: README has the file.
"""

from vitdyn._registry import Registry
from vitdyn.objectives.closed_form import ClosedForm, MeanPooled, Reduction, Residual
from vitdyn.objectives.families.contrastive import Contrastive
from vitdyn.objectives.families.masked_reconstruction import MaskedReconstruction
from vitdyn.objectives.families.mixture import Mixture
from vitdyn.objectives.forward import ForwardPass, State
from vitdyn.objectives.masking import Masking
from vitdyn.objectives.objective import Objective
from vitdyn.objectives.stacked import hyperparameter

OBJECTIVES = Registry(
    "objective",
    lambda kind: isinstance(kind, type) and issubclass(kind, Objective),
    {"mae": MaskedReconstruction, "cl": Contrastive, "mixture": Mixture},
)

__all__ = [
    "OBJECTIVES",
    "ClosedForm",
    "Contrastive",
    "ForwardPass",
    "MaskedReconstruction",
    "Masking",
    "MeanPooled",
    "Mixture",
    "Objective",
    "Reduction",
    "Residual",
    "State",
    "hyperparameter",
]
