"""How the gradient of a training is evaluated: its objective and sizes, as the plan of the kernels asks for them."""

from __future__ import annotations

from vitdyn.dynamics.resources import PRECISIONS
from vitdyn.dynamics.training import Training
from vitdyn.kernels import Plan, plan_for
from vitdyn.objectives import MeanPooled, Residual
from vitdyn.objectives.contract import closed_form_kinds


def plan_of(training: Training, device: str) -> Plan:
    """Return the plan of a training's gradient on a kind of device."""
    layout = training.generator.layout
    kinds = closed_form_kinds(training.objective, layout)
    return plan_for(
        layout,
        device,
        PRECISIONS[training.precision],
        content_queries=training.content_queries,
        residual=Residual in kinds,
        mean_pooled=MeanPooled in kinds,
    )
