"""A closer look at what a run ended with: what each single patch attends to."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch
from jaxtyping import Float

from vitdyn._errors import invalid_value, require_integer, require_kind
from vitdyn.dynamics import Training
from vitdyn.dynamics.batches import BatchSource
from vitdyn.models import Correlations, area_attention
from vitdyn.observables.standard import sample_mean
from vitdyn.trajectory import Trajectory


def patch_area_attention(
    trajectory: Trajectory, training: Training, *, samples: int = 128
) -> Float[np.ndarray, "seed cluster query area"]:
    """Return how much each masked patch attends to each area, for the model that a run ended with.

    A_{p→j} in the mean over those of ``samples`` fresh samples per seed that mask the patch and show some of
    its own area. NaN for a patch without such a sample (an area of one patch is masked with its only
    patch) and for areas that a cluster lacks. ``training`` is the specification that the run had.

    Raises ``ValueError`` for a trajectory that was recorded without its final state.
    """
    require_kind("trajectory", trajectory, Trajectory)
    require_kind("training", training, Training)
    require_integer("samples", samples, at_least=1)
    correlations = _final_correlations(trajectory)
    dtype, layout = correlations.feature_position.dtype, training.generator.layout
    source = BatchSource(
        training.generator,
        training.objective,
        training.seed_numbers,
        samples,
        None,
        dtype,
        torch.device("cpu"),
    )
    # After the last step: samples that no step of the run has seen.
    batch, views = source.evaluation(training.steps + 1, samples)
    attention = area_attention(correlations, batch, views[0])
    counted = ~views[0] & batch.own_area_visible(views[0])
    means = []
    for cluster, sizes in enumerate(layout.sizes):
        mean = sample_mean(attention, counted & (batch.cluster == cluster)[..., None]).transpose(1, 2)
        mean[..., torch.from_numpy(sizes == 0)] = torch.nan
        means.append(mean)
    return torch.stack(means, 1).numpy()


def _final_correlations(trajectory: Trajectory) -> Correlations:
    names = [block.name for block in fields(Correlations)]
    kept = {name: f"final_{name}" for name in names if f"final_{name}" in trajectory.dataset}
    if "position_position" not in kept:
        raise invalid_value("trajectory", "no final state", "run it again with keep_final_state=True")
    return Correlations(
        **{name: torch.from_numpy(trajectory[stored].to_numpy()) for name, stored in kept.items()}
    )
