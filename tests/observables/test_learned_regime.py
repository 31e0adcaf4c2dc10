"""The regime read from trajectories made by hand (exact)."""

import numpy as np
import pytest
import xarray

from vitdyn.observables import learned_regime
from vitdyn.trajectory import Trajectory

NAN = np.nan


def trajectory(*seeds):
    """Two frames, the first of them misleading; a seed is (own, to the global area) of each local area."""
    own = np.full((2, len(seeds), 1, 4, 3), 0.0)
    attention = np.full((2, len(seeds), 1, 4, 4, 3), 0.0)
    for seed, areas in enumerate(seeds):
        own[:, seed, 0, 0] = attention[:, seed, 0, 0, 0] = 0.9
        for area, (home, centre) in enumerate(areas, start=1):
            own[1, seed, 0, area, 0] = home
            attention[1, seed, 0, area, 0, 0] = centre
            own[0, seed, 0, area, 0], attention[0, seed, 0, area, 0, 0] = centre, home
            own[:, seed, 0, area, 1:] = attention[:, seed, 0, area, 0, 1:] = 0.5
    pair = ("frame", "seed", "cluster", "query_area")
    variables = {
        "own_area_attention": ((*pair, "statistic"), own),
        "area_attention": ((*pair, "key_area", "statistic"), attention),
    }
    return Trajectory(xarray.Dataset(variables, {"statistic": ["mean", "minimum", "maximum"]}))


LOCAL, GLOBAL = [(0.9, 0.05)] * 3, [(0.1, 0.8)] * 3


@pytest.mark.parametrize(
    ("areas", "regime"),
    [
        (LOCAL, "local"),
        (GLOBAL, "global"),
        ([(0.9, 0.05), (0.9, 0.05), (0.1, 0.8)], "mixed"),
        ([(0.3, 0.3)] * 3, "mixed"),
        ([(0.51, 0.4), (0.9, 0.1), (0.9, 0.1)], "local"),
        ([(0.49, 0.4), (0.9, 0.1), (0.9, 0.1)], "mixed"),
        ([(0.4, 0.51), (0.1, 0.9), (0.1, 0.9)], "global"),
        ([(0.4, 0.49), (0.1, 0.9), (0.1, 0.9)], "mixed"),
        ([(0.9, 0.05), (0.9, 0.05), (NAN, NAN)], "local"),
        ([(0.1, 0.9), (0.1, 0.9), (NAN, NAN)], "global"),
        ([(0.9, 0.05), (0.1, 0.8), (NAN, NAN)], "mixed"),
        ([(0.9, 0.05), (0.9, 0.05), (NAN, 0.3)], "local"),
    ],
)
def test_one_seed(areas, regime):
    assert learned_regime(trajectory(areas)) == (regime,)


def test_every_seed_by_itself():
    assert learned_regime(trajectory(GLOBAL, LOCAL, [(0.3, 0.3)] * 3)) == ("global", "local", "mixed")


def test_the_share_decides():
    areas = [(0.7, 0.2)] * 3
    assert learned_regime(trajectory(areas)) == ("local",)
    assert learned_regime(trajectory(areas), share=0.8) == ("mixed",)


def test_the_global_area_has_no_say():
    """Queries of the global area attend to their own area in both regimes."""
    made = trajectory(GLOBAL)
    made.dataset["own_area_attention"][:, :, :, 0] = 0.0
    made.dataset["area_attention"][:, :, :, 0] = 0.0
    assert learned_regime(made) == ("global",)
