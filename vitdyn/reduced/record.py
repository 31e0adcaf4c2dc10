"""What a mean-field state means in the words of a trajectory, and the trajectory of any run of this package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vitdyn._axes import GLOBAL_AREA, STATISTIC, STATISTICS
from vitdyn._specs import to_text
from vitdyn.observables import RECORD
from vitdyn.observables.labels import labelled_trajectory
from vitdyn.reduced.attention import State
from vitdyn.reduced.mean_field import MeanField
from vitdyn.reduced.right_hand_side import RightHandSide
from vitdyn.trajectory import Trajectory, machine_name

_PAIRS = np.array(((3, 4, 4), (0, 1, 2), (0, 2, 1)))
"""Which order parameter stands between representative areas: query area by key area, both (global, local, local)."""
_MOST_AT_ONCE = 64


def assemble(
    spec: Any,
    variables: Mapping[str, np.ndarray],
    steps: np.ndarray,
    time: np.ndarray,
    *,
    seeds: tuple[int, ...] = (0,),
    engine: str,
    seconds: float,
) -> Trajectory:
    """Return the trajectory of a run, its variables labelled as in the standard record."""
    about: dict[str, Any] = {"spec": to_text(spec), "device": "cpu", "engine": engine}
    about |= {"machine": machine_name(), "seconds": seconds, "global_area": GLOBAL_AREA}
    return labelled_trajectory(RECORD, variables, steps=steps, times=time, seeds=seeds, attributes=about)


def observe_mean_field(spec: MeanField, states: np.ndarray) -> dict[str, np.ndarray]:
    """Return the variables of a trajectory from its states (frame, parameter), with the axes of the standard record."""
    parts = np.array_split(states, max(1, -(-len(states) // _MOST_AT_ONCE)))
    frames = [_observe(spec, part.T) for part in parts]
    columns = {name: np.concatenate([frame[name] for frame in frames]) for name in frames[0]}
    columns["feature_position"] = states[:, _PAIRS]
    if spec.position_correlations:
        columns["position_position"] = states[:, 5 + _PAIRS]
    axes_of = {each.name: each.axes for each in RECORD}
    for name, values in columns.items():
        # One seed, one cluster that stands for all, and positions that are all alike: mean, least and largest agree.
        axes = axes_of[name]
        values = values[:, None] if "cluster" not in axes else values[:, None, None]
        columns[name] = np.repeat(values[..., None], len(STATISTICS), -1) if STATISTIC in axes else values
    return columns


def _squared_norm(spec: MeanField, state: State) -> np.ndarray:
    """Return ‖Φ‖² over all queries, clusters and areas; Υ is left out."""
    sizes, others = spec.sizes, spec.sizes.local_areas
    local = state[0] ** 2 + state[1] ** 2 + (others - 1) * state[2] ** 2
    of_global = state[3] ** 2 + others * state[4] ** 2
    return spec.clusters * (sizes.global_size * of_global + (sizes.patches - sizes.global_size) * local)


def _observe(spec: MeanField, states: State) -> dict[str, np.ndarray]:
    """Return area attention, reconstruction error and losses at states (parameter, frame), frames first.

    The error is that of masked queries whatever the objective, as in a full simulation.
    """
    right = RightHandSide.together([spec.right_hand_side] * states.shape[1])
    rows = right.rows(states)
    to_global, own, other, own_global, other_global = right.attention(rows.loss_queries)
    (local, local_row), (of_global, global_row) = rows.masked or right.rows_of(states, masked=True)
    z = right.rule.nodes
    others = local.others * local_row.to_other**2 * right.moment(2, local_row.boost**2)
    # ‖F − X‖²: what the own area lacks, what the global area gets, and what all others get.
    missing = z[None, :] ** 2 * local_row.complement**2 + z[:, None] ** 2 * local_row.to_global**2 + others
    error_local = 0.5 * right.mean(missing)
    others = of_global.others * global_row.to_other**2 * right.moment(2, global_row.boost**2)
    error_global = 0.5 * right.mean(z[:, None] ** 2 * global_row.complement**2 + others)
    share, weight = right.share_global, spec.weight
    per_patch = right.mask_ratio * (share * error_global + (1 - share) * error_local)
    excess = (1 - weight) * right.reconstruction_scale * per_patch * spec.sizes.patches
    loss = excess
    # Reconstruction has no lower bound to subtract: its best is, in this limit, an error of 0.
    if weight > 0:
        assert rows.pooled is not None
        minus_log = right.negatives_softmax(*right.pooled(rows.pooled))[-1]
        contrast = (right.rule.weights * minus_log).sum(0)
        # The best that InfoNCE can do: a similarity of U² with the positive and of 0 with every negative.
        bound = np.log1p(spec.negatives * np.exp(-(spec.latents.high**2) / right.temperature))
        decay = 0.5 * right.decay * _squared_norm(spec, states)
        loss, excess = loss + weight * contrast + decay, excess + weight * (contrast - bound) + decay
    attention = [
        [own_global, other_global, other_global],
        [to_global, own, other],
        [to_global, other, own],
    ]
    found = {
        "area_attention": attention,
        "own_area_attention": [own_global, own, own],
        "reconstruction_error": [error_global, error_local, error_local],
        "loss": loss,
        "excess_loss": excess,
    }
    return {name: np.moveaxis(np.array(values), -1, 0) for name, values in found.items()}
