"""What a cell of a sweep costs: seconds on this machine, and bytes on the disk."""

from __future__ import annotations

from vitdyn.data import PatchLayout
from vitdyn.dynamics import Runtime, Schedule, Training
from vitdyn.dynamics.memory import recorded_bytes, state_bytes
from vitdyn.experiments.cost import estimate_cost
from vitdyn.experiments.experiment import SMALL_VITS, Experiment
from vitdyn.reduced import ExactReduction, MeanField
from vitdyn.vits import estimate_seconds

_FLOW_SECONDS, _REDUCTION_SECONDS = 0.1, 1.0
"""Of one core, in the middle of what flows and reductions take."""
_FILE_BYTES = 20_000
"""Of a result, for the names, axes and meanings of its variables."""
_STATISTICS, _REPRESENTATIVES = 3, 3
"""Mean, least and largest; the areas that stand for all in the limit of many patches."""


def expected_seconds(experiment: Experiment, runtime: Runtime) -> float:
    """Return about how long an experiment runs on this machine; on a GPU, and of models of users, a guess."""
    spec = experiment.training
    if isinstance(spec, SMALL_VITS):
        return estimate_seconds([spec])
    if isinstance(spec, Training):
        try:
            return estimate_cost(experiment, device=runtime.device).seconds or 1.0
        except ValueError:  # it needs more memory than there is here: on another machine it may run
            return 1.0
    return _REDUCTION_SECONDS if isinstance(spec, ExactReduction) else _FLOW_SECONDS


def expected_bytes(experiment: Experiment, runtime: Runtime) -> int:
    """Return the bytes of an experiment's result by the shapes of its variables, before they are compressed.

    Compressed, a result of many areas may be a tenth of that, or nearly all of it.
    """
    spec = experiment.training
    size = _FILE_BYTES
    if isinstance(spec, Training):
        last = state_bytes(spec) if runtime.keep_final_state else 0
        return size + _text_bytes(spec.generator.layout) + recorded_bytes(spec) + last
    if isinstance(spec, ExactReduction):
        clusters, areas = spec.layout.sizes.shape
        size += _text_bytes(spec.layout)
        frames = len(Schedule(frames=spec.frames).recorded_steps(spec.steps)) * len(spec.seed_numbers)
        # three variables of query and key area, and two of query area
        return size + 8 * frames * _STATISTICS * clusters * areas * (3 * areas + 2)
    if isinstance(spec, MeanField):
        areas = _REPRESENTATIVES
        pairs = areas * ((2 + spec.position_correlations) * areas + 1)
        return size + 8 * spec.frames * (_STATISTICS * pairs + areas + 4)
    return size


def _text_bytes(layout: PatchLayout) -> int:
    """Return the length of a layout in the two specifications that a result holds: the area of each patch."""
    return 2 * layout.clusters * layout.patches * len(f"{layout.areas}, ")
