"""How the theory's layer is evaluated: one plan and interchangeable backends; ``README.md`` tells the equations."""

from vitdyn.kernels.parameters import Correlations
from vitdyn.kernels.plan import Path, Plan, plan_for
from vitdyn.kernels.workspace import Workspace

__all__ = ["Correlations", "Path", "Plan", "Workspace", "plan_for"]
