"""What is recorded of a run: observables, each with its axes, symbol, meaning and computation."""

from vitdyn.observables.catalogue import METRICS, as_observables
from vitdyn.observables.labels import labelled_trajectory
from vitdyn.observables.least import least_global_attention, least_own_area_attention
from vitdyn.observables.metrics import Metric, MetricImages, metric_observables
from vitdyn.observables.observable import OBSERVABLES, Observable, check_observables, observe
from vitdyn.observables.regime import learned_regime
from vitdyn.observables.representation import image_representation, patch_representation
from vitdyn.observables.schedule import Schedule
from vitdyn.observables.standard import RECORD, sample_mean
from vitdyn.observables.state import ModelState

__all__ = [
    "METRICS",
    "OBSERVABLES",
    "RECORD",
    "Metric",
    "MetricImages",
    "ModelState",
    "Observable",
    "Schedule",
    "as_observables",
    "check_observables",
    "image_representation",
    "labelled_trajectory",
    "learned_regime",
    "least_global_attention",
    "least_own_area_attention",
    "metric_observables",
    "observe",
    "patch_representation",
    "sample_mean",
]
