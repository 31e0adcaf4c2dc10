"""How the theory's layer is evaluated: one plan and interchangeable backends; ``README.md`` tells the equations."""

from vitdyn.kernels.parameters import Correlations
from vitdyn.kernels.plan import Path, Plan, plan_for

__all__ = [
    "Correlations",
    "Path",
    "Plan",
    "plan_for",
]
