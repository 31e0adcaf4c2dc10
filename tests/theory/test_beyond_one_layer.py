"""What the note on heads, values and depth derives, by sympy (proofs), and leading orders against exact rates."""

import numpy as np
import pytest

from vitdyn.data import AreaSizes, TwoPoint
from vitdyn.theory import start_drives, uniform_values, value_start_rates

LAW = TwoPoint(low=0.8, high=1.3, probability_high=0.3)
M1, M2, M3 = (0.7 * 0.8**power + 0.3 * 1.3**power for power in (1, 2, 3))
GAMMA, NU, P, CLUSTERS = 0.25, 0.75, 1e14, 3


def test_conserved_quantities_and_curvatures_are_derived():
    pytest.importorskip("sympy")
    from vitdyn.theory.derivations import beyond_one_layer as derived

    assert derived.head_law_holds() and derived.value_law_holds() and derived.differences_feel_the_residual()
    assert [derived.shift_of_layer(layer) for layer in range(5)] == [2**layer - 1 for layer in range(5)]


def test_leading_orders_of_trained_values():
    sizes = AreaSizes.from_exponents(P, kappa_c=0.7, kappa_s=0.3)
    of = {"local_value": 0.6, "global_value": 1.2, "mask_ratio": GAMMA, "clusters": CLUSTERS}
    local, wide = sizes.local_size / P, sizes.global_size / P
    expected = {
        "local value": GAMMA * NU * M2 * (1 - NU * 0.6) * local**2 * P,
        "global value": GAMMA * NU * M2 * (1 - NU * 1.2) * wide**2 * P,
        "own": GAMMA * NU * M3 * 0.6 * local,
        "global": -GAMMA * NU**2 * M3 * (1.2 * wide) ** 2,
    }
    found = value_start_rates(sizes, LAW, **of)
    assert {name: CLUSTERS * rate for name, rate in found.items()} == pytest.approx(expected, rel=0.01)
    found = value_start_rates(sizes, LAW, "contrast", **of)
    rate = NU**2 * (M3 - M1 * M2 / CLUSTERS) * 1.2**2 * wide**2 / P / CLUSTERS
    assert found["global"] == pytest.approx(rate, rel=0.01)
    assert uniform_values(sizes, mask_ratio=GAMMA) == pytest.approx(
        {"local": 1 / NU, "global": 1 / NU}, rel=0.01
    )


def test_leading_orders_of_noise_and_coherence():
    sizes = AreaSizes.from_exponents(P, kappa_c=0.7, kappa_s=0.3)
    share = {"own": sizes.local_size / P, "global": sizes.global_size / P, "other": sizes.local_size / P}

    def added(objective, **level):
        of = {"mask_ratio": GAMMA}
        pair = [start_drives(sizes, LAW, objective, **of, **extra) for extra in (level, {})]
        return {name: pair[0][name] - pair[1][name] for name in NAMES}

    NAMES = tuple(share)
    noise = added("reconstruction", noise=0.3)
    assert noise["own"] == pytest.approx(GAMMA * NU * 0.09 * M1, rel=0.01)
    assert noise["global"] == pytest.approx(-GAMMA * NU**2 * 0.09 * M1 * share["global"], rel=0.01)
    noise = added("contrast", noise=0.3)
    features = 1 + sizes.local_areas
    for name in NAMES:
        gain = NU**2 * GAMMA * 0.09 * (features + 1) * M1 * share[name] / P
        assert noise[name] == pytest.approx(gain, rel=0.01)
    # the coherence's push towards what is visible, over what all areas share
    coherent = added("reconstruction", coherence=1e-9)
    push = 1e-9 * GAMMA * NU * (1 - NU) * M1 * (M2 - NU * M1**2)
    assert np.isclose(coherent["global"] - coherent["own"], push * share["global"], rtol=0.02)
