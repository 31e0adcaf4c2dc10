"""How the theory's layer is evaluated: one plan and interchangeable backends; ``README.md`` tells the equations."""

from vitdyn.kernels.parameters import Correlations, Parameters, as_parameters
from vitdyn.kernels.plan import Path, Plan, plan_for

__all__ = [
    "Correlations",
    "Parameters",
    "Path",
    "Plan",
    "as_parameters",
    "plan_for",
]
