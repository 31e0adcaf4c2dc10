"""Moments read off trajectories: exactly on made ones, against the drifts on flows and descents."""

import numpy as np
import pytest
import xarray

from vitdyn.data import AreaSizes
from vitdyn.reduced import MeanField, integrate, local_correlations, phase_one_end, when_reached
from vitdyn.theory import Regime, phase_one_level, take_over_level
from vitdyn.trajectory import Trajectory

AXES = ("frame", "seed", "cluster", "query_area", "key_area", "statistic")


def made(time, away, own):
    """A trajectory of two seeds that differ around these correlations of local queries."""
    phi = np.zeros((len(time), 2, 1, 3, 3, 1))
    phi[..., 1:, 0, 0] = away[:, None, None, None]
    phi[..., 1, 1, 0] = phi[..., 2, 2, 0] = own[:, None, None]
    phi[:, 0] += 0.1
    phi[:, 1] -= 0.1
    return Trajectory(
        xarray.Dataset({"feature_position": (AXES, phi)}, {"time": ("frame", time), "statistic": ["mean"]})
    )


def test_the_end_of_phase_one_is_where_the_speeds_agree():
    """φ_1 = −t + t²/8 and φ_a = t²/8: the speeds agree at t = 2, which differences of quadratics find exactly."""
    time = np.linspace(0, 4, 9)
    end = phase_one_end(made(time, -time + time**2 / 8, time**2 / 8))
    assert end is not None
    assert end.time == pytest.approx(2, abs=1e-12)
    assert (end.to_global, end.to_own) == pytest.approx((-1.5, 0.5), abs=1e-12)


@pytest.mark.parametrize("own", [2.0, 0.0], ids=["the own one is faster from the start", "it never is"])
def test_there_may_be_no_such_moment(own):
    time = np.linspace(0, 4, 9)
    assert phase_one_end(made(time, -time, own * time)) is None


def test_a_value_at_a_level_is_interpolated():
    values, other = np.array([0.0, 1.0, 3.0]), np.array([0.0, 0.2, 0.6])
    assert when_reached(values, other, 0.4) == pytest.approx(2)
    assert when_reached(values, other, 0.0) == 0
    assert np.isnan(when_reached(values, other, 0.7))


def test_on_a_flow_it_is_where_the_drifts_cancel():
    spec = MeanField(sizes=AreaSizes.from_exponents(1e6, 0.9, 0.3), until=0.9, frames=600, nodes=10)
    flow = integrate(spec)
    end = phase_one_end(flow)
    assert end is not None
    phi = flow["feature_position"].sel(statistic="mean").to_numpy()[:, 0, 0]
    states = np.stack([phi[:, 1, 0], phi[:, 1, 1], phi[:, 1, 2], phi[:, 0, 0], phi[:, 0, 1]], 1)
    drifts = np.array([spec.right_hand_side(state)[:2].sum() for state in states])
    after = int(np.flatnonzero(drifts > 0)[0])
    time = flow["time"].to_numpy()
    assert time[after - 2] < end.time < time[after + 1]


def test_each_moment_of_a_small_model_has_its_own_level():
    """P = 200, κ = (0.9, 0.4): φ_1 is at one level where the drifts cross and at another when the own area takes over.

    The level of the take-over, read at the crossing, would be wrong: the two differ by log 3/(2z).
    """
    spec = MeanField(sizes=AreaSizes.from_exponents(200, 0.9, 0.4), until=0.95, frames=600, nodes=10)
    flow = integrate(spec)
    regime, distribution = Regime.of(spec.sizes), spec.latents
    end, away = phase_one_end(flow), local_correlations(flow)[:, 0]
    own = flow["own_area_attention"].sel(statistic="mean").to_numpy()[:, 0, 0, 1]
    slack = 0.15  # corrections of relative order P^{−0.1}
    crossing, take_over = phase_one_level(regime, distribution), take_over_level(regime, distribution)
    assert crossing.low - slack < end.to_global < crossing.high + slack
    assert not take_over.low < end.to_global < take_over.high
    fallen = when_reached(away, own, 0.5)
    assert take_over.low - slack < fallen < take_over.high + slack
    assert not crossing.low < fallen < crossing.high


def test_where_the_gap_is_negative_there_is_no_first_phase():
    spec = MeanField(sizes=AreaSizes.from_exponents(1e8, 0.55, 0.4), until=0.9, nodes=10)
    assert phase_one_end(integrate(spec)) is None
