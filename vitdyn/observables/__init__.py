"""What is recorded of a run: each observable with its axes, symbol and meaning."""

from vitdyn.observables.catalogue import METRICS, OBSERVABLES, Observable
from vitdyn.observables.least import least_global_attention, least_own_area_attention
from vitdyn.observables.metrics import Metrics
from vitdyn.observables.observe import observe, sample_mean
from vitdyn.observables.regime import learned_regime
from vitdyn.observables.representation import image_representation, patch_representation

__all__ = [
    "METRICS",
    "OBSERVABLES",
    "Metrics",
    "Observable",
    "image_representation",
    "learned_regime",
    "least_global_attention",
    "least_own_area_attention",
    "observe",
    "patch_representation",
    "sample_mean",
]
