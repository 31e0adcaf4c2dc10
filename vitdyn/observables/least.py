"""The attention of the position that fares worst, over training: what the limit claims are judged by."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from vitdyn._axes import CLUSTER, GLOBAL_AREA, QUERY_AREA
from vitdyn._errors import require_kind
from vitdyn.trajectory import Trajectory


def least_own_area_attention(trajectory: Trajectory) -> Float[np.ndarray, "frame seed"]:
    """Return the least own-area attention of any position, at each frame of each seed.

    A position's value is its mean over the evaluation samples that count it and show some of its area.
    """
    require_kind("trajectory", trajectory, Trajectory)
    least = trajectory["own_area_attention"].sel(statistic="minimum")
    return least.min((CLUSTER, QUERY_AREA)).to_numpy()


def least_global_attention(trajectory: Trajectory) -> Float[np.ndarray, "frame seed"]:
    """Return the least attention to the global area of any position, each in its mean over samples."""
    require_kind("trajectory", trajectory, Trajectory)
    least = trajectory["area_attention"].sel(statistic="minimum").isel(key_area=GLOBAL_AREA)
    return least.min((CLUSTER, QUERY_AREA)).to_numpy()
