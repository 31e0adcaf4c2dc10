"""What is recorded of a run: observables, each with its axes, symbol, meaning and computation.

>>> vd.observables.METRICS["lidar"].meaning
'effective number of directions that separate images, not masks'
"""

from vitdyn.observables.by_depth import DepthMetric, depth_observables
from vitdyn.observables.by_head import BY_HEAD
from vitdyn.observables.catalogue import BY_DEPTH, METRICS
from vitdyn.observables.correction import TeacherCorrection
from vitdyn.observables.layer_roles import LAYER_ROLES
from vitdyn.observables.learned import (
    attention_moved,
    learned_regime,
    least_area_attention,
    least_global_attention,
    least_own_area_attention,
    local_own_area_attention,
    regime_sensitivity,
)
from vitdyn.observables.metrics import Metric, MetricImages, metric_observables
from vitdyn.observables.observable import OBSERVABLES, Observable
from vitdyn.observables.representation import image_representation, patch_representation
from vitdyn.observables.schedule import Schedule
from vitdyn.observables.standard import RECORD
from vitdyn.observables.state import ModelState

__all__ = [
    "BY_DEPTH",
    "BY_HEAD",
    "LAYER_ROLES",
    "METRICS",
    "OBSERVABLES",
    "RECORD",
    "DepthMetric",
    "Metric",
    "MetricImages",
    "ModelState",
    "Observable",
    "Schedule",
    "TeacherCorrection",
    "attention_moved",
    "depth_observables",
    "image_representation",
    "learned_regime",
    "least_area_attention",
    "least_global_attention",
    "least_own_area_attention",
    "local_own_area_attention",
    "metric_observables",
    "patch_representation",
    "regime_sensitivity",
]
