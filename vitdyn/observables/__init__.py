"""What is recorded of a run: each observable with its axes, symbol and meaning."""

from vitdyn.observables.least import least_global_attention, least_own_area_attention
from vitdyn.observables.observe import OBSERVABLES, Observable, observe, sample_mean
from vitdyn.observables.regime import learned_regime

__all__ = [
    "OBSERVABLES",
    "Observable",
    "learned_regime",
    "least_global_attention",
    "least_own_area_attention",
    "observe",
    "sample_mean",
]
