"""The reduction to order parameters: exact in expectation with drawn counts, of leading order in the mean field."""

from vitdyn.lumped.events import (
    PhaseOneEnd,
    crossing_time,
    local_correlations,
    phase_one_end,
    when_reached,
)
from vitdyn.lumped.exact_reduction import ExactReduction, descend, sampled_gradient
from vitdyn.lumped.flow import Flows, integrate, integrate_batch, integrate_descents
from vitdyn.lumped.mean_field import MeanField, StalledFlowError
from vitdyn.lumped.quadrature import quadrature
from vitdyn.lumped.symmetry import OrderParameters, Symmetry

__all__ = [
    "ExactReduction",
    "Flows",
    "MeanField",
    "OrderParameters",
    "PhaseOneEnd",
    "StalledFlowError",
    "Symmetry",
    "crossing_time",
    "descend",
    "integrate",
    "integrate_batch",
    "integrate_descents",
    "local_correlations",
    "phase_one_end",
    "quadrature",
    "sampled_gradient",
    "when_reached",
]
