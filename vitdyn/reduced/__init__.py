"""The reduction to order parameters: exact in expectation with drawn counts, of leading order in the mean field."""

from vitdyn.reduced.events import crossing_time, local_correlations, phase_one_end, when_reached
from vitdyn.reduced.exact_reduction import ExactReduction, descend
from vitdyn.reduced.flow import integrate, integrate_batch, integrate_descents, integrate_flows
from vitdyn.reduced.mean_field import MeanField, StalledFlowError
from vitdyn.reduced.symmetry import OrderParameters, Symmetry

__all__ = [
    "ExactReduction",
    "MeanField",
    "OrderParameters",
    "StalledFlowError",
    "Symmetry",
    "crossing_time",
    "descend",
    "integrate",
    "integrate_batch",
    "integrate_descents",
    "integrate_flows",
    "local_correlations",
    "phase_one_end",
    "when_reached",
]
