"""The regime that a trained model is in, read from its area attention."""

from __future__ import annotations

import numpy as np

from vitdyn._axes import GLOBAL_AREA
from vitdyn._errors import require_kind, require_real
from vitdyn.trajectory import Trajectory

LOCAL, GLOBAL, MIXED = "local", "global", "mixed"


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
