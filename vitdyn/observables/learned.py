"""What a model has learned, read from its area attention: who attends to what, and the regime that it is in."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from vitdyn._axes import CLUSTER, GLOBAL_AREA, QUERY_AREA
from vitdyn._errors import require_kind, require_real
from vitdyn.trajectory import Trajectory

LOCAL, GLOBAL, MIXED = "local", "global", "mixed"


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


def learned_regime(trajectory: Trajectory, *, share: float = 0.5) -> tuple[str, ...]:
    """Return each seed's regime at the last frame: "local", "global" or "mixed".

    Local: the queries of every local area give, on average over each area, more than ``share`` of their
    attention to their own area. Global: those of every local area give more than ``share`` to the
    global area. Mixed: neither.

    >>> generator = vd.PatchGenerator(layout=vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5))
    >>> training = vd.Training(generator=generator, objective=vd.MaskedReconstruction(), steps=200, seeds=2)
    >>> vd.learned_regime(vd.simulate(training))
    ('local', 'local')
    """
    require_kind("trajectory", trajectory, Trajectory)
    require_real("share", share, low=0.0, high=1.0)
    attention, own_attention = (
        trajectory[name].isel(frame=-1).sel(statistic="mean").to_numpy()
        for name in ("area_attention", "own_area_attention")
    )
    home = own_attention[:, :, GLOBAL_AREA + 1 :]
    away = attention[:, :, GLOBAL_AREA + 1 :, GLOBAL_AREA]
    regimes = []
    for own, centre in zip(home, away, strict=True):
        exists = ~np.isnan(centre)
        if (own[exists & ~np.isnan(own)] > share).all():
            regimes.append(LOCAL)
        elif (centre[exists] > share).all():
            regimes.append(GLOBAL)
        else:
            regimes.append(MIXED)
    return tuple(regimes)
