"""What a mean-field state means in the words of a trajectory."""

from __future__ import annotations

from typing import Any

import numpy as np

from vitdyn._axes import FRAME, STATISTICS
from vitdyn.lumped.attention import State
from vitdyn.lumped.mean_field import MeanField
from vitdyn.observables import OBSERVABLES

_PAIRS = ((3, 4, 4), (0, 1, 2), (0, 2, 1))
"""Which order parameter stands between representative areas: query area by key area, both (global, local, local)."""


def observe_mean_field(spec: MeanField, states: np.ndarray) -> dict[str, Any]:
    """Return the variables of a trajectory, frame by frame, with the axes and attributes of ``OBSERVABLES``."""
    pairs = np.array(_PAIRS)
    by_name: dict[str, list[np.ndarray]] = {}
    for state in states:
        for name, value in _frame(spec, state).items():
            by_name.setdefault(name, []).append(value)
    columns = {name: np.stack(values) for name, values in by_name.items()}
    columns["feature_position"] = states[:, pairs]
    if spec.position_correlations:
        columns["position_position"] = states[:, 5 + pairs]
    variables = {}
    for name, values in columns.items():
        about = OBSERVABLES[name]
        values = values[:, None] if "cluster" not in about.axes else values[:, None, None]
        if "statistic" in about.axes:
            values = np.repeat(values[..., None], len(STATISTICS), -1)
        variables[name] = ((FRAME, *about.axes), values, {"symbol": about.symbol, "long_name": about.meaning})
    return variables


def _squared_norm(spec: MeanField, state: State) -> float:
    """Return ‖Φ‖² over all queries, clusters and areas; Υ is left out."""
    sizes, others = spec.sizes, spec.sizes.local_areas
    local = state[0] ** 2 + state[1] ** 2 + (others - 1) * state[2] ** 2
    central = state[3] ** 2 + others * state[4] ** 2
    return spec.clusters * float(sizes.global_size * central + (sizes.patches - sizes.global_size) * local)


def _frame(spec: MeanField, state: State) -> dict[str, np.ndarray]:
    """Return area attention, reconstruction error and losses at one state.

    The error is that of hidden queries whatever the objective, as in a full simulation.
    """
    right = spec.right_hand_side
    queries = right.rows(state)
    away, own, other_l, home, other_c = right.attention(queries.counted)
    (local, local_row), (central, central_row) = queries.hidden or right.rows_of(state, hidden=True)
    z = right.rule.nodes
    spread_l = local.others * local_row.other**2 * right.moment(2, local_row.tilt**2)
    spread_c = central.others * central_row.other**2 * right.moment(2, central_row.tilt**2)
    missing = z[None, :] ** 2 * local_row.rest**2 + z[:, None] ** 2 * local_row.to_global**2 + spread_l
    error_local = 0.5 * right.mean(missing)
    error_global = 0.5 * right.mean(z[:, None] ** 2 * central_row.rest**2 + spread_c)
    share, weight = right.share_global, spec.weight
    per_patch = right.hidden * (share * error_global + (1 - share) * error_local)
    excess = (1 - weight) * right.reconstruction_scale * per_patch * spec.sizes.patches
    loss = excess
    if weight > 0:
        assert queries.every is not None
        contrast = float(right.rule.weights @ right.repulsion(*right.pooled(queries.every))[-1])
        bound = np.log1p(spec.negatives * np.exp(-(spec.latents.high**2) / right.temperature))
        decay = 0.5 * right.decay * _squared_norm(spec, state)
        loss, excess = loss + weight * contrast + decay, excess + weight * (contrast - bound) + decay
    return {
        "area_attention": np.array([[home, other_c, other_c], [away, own, other_l], [away, other_l, own]]),
        "own_area_attention": np.array([home, own, own]),
        "reconstruction_error": np.array([error_global, error_local, error_local]),
        "loss": np.array(loss),
        "excess_loss": np.array(excess),
    }
