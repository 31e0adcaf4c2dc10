"""Curvature in the limit of many patches: signs and powers of P at Q = 0, and how curvature changes along training."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from vitdyn._errors import invalid_value, require_real
from vitdyn.data import Distribution
from vitdyn.theory.regime import Regime, checked
from vitdyn.theory.visible_counts import latent_moments


@dataclass(frozen=True, kw_only=True)
class Curvature:
    """Second derivatives of a query's loss along one kind of direction: ``value`` ≍ P^exponent, P^multiplicity of them.

    ``multiplicity`` is an exponent too.
    """

    name: str
    value: float
    exponent: float
    multiplicity: float


@checked
def start_curvatures(
    regime: Regime, distribution: Distribution, *, mask_ratio: float = 0.5
) -> dict[str, Curvature]:
    """Return the curvatures of masked reconstruction at Q = 0 to leading order, by name.

        own           Φ of a local query to its own area      −γν m_4 P^{−(1−κ_s)}
        global        ... to the global area                  2γν² m_4 P^{−2(1−κ_c)}
        own keys      Υ between keys of the own area          −γν m_2 P^{−1}
        global keys   ... of the global area                  γν² m_2 P^{−1−(1−κ_c)}
        other keys    ... of another local area               γν m_2 P^{−1} (P^{−(1−κ_s)} − ν P^{−2(1−κ_c)})
        global query  Φ of a global query to the global area  −γν m_4 P^{−(1−κ_c)}

    with ν = 1 − γ, m_k = E z^k. The sign of the other keys, the most numerous, is where νP^Δ passes 1, as that of the
    first move is (``first_lead``). One cluster. Source: our notes, derivations.md.

    >>> regime = vd.theory.Regime(patches=1e8, kappa_c=0.9, kappa_s=0.3)
    >>> found = vd.theory.start_curvatures(regime, vd.Constant(value=1.0))
    >>> found["own"].exponent, round(found["global"].exponent, 3), found["other keys"].value < 0
    (-0.7, -0.2, True)
    """
    require_real("mask_ratio", mask_ratio, low=0.0, high=1.0, open_low=True, open_high=True)
    _, _, m2, _, m4, *_ = map(float, latent_moments(distribution))
    gamma, shown = mask_ratio, 1 - mask_ratio
    local, wide = 1 - regime.kappa_s, 1 - regime.kappa_c
    constants = {
        "own": (-gamma * shown * m4, -local, 0.0),
        "global": (2 * gamma * shown**2 * m4, -2 * wide, 0.0),
        "own keys": (-gamma * shown * m2, -1.0, regime.kappa_s),
        "global keys": (gamma * shown**2 * m2, -1 - wide, regime.kappa_c),
        "global query": (-gamma * shown * m4, -wide, 0.0),
    }
    found = {
        name: Curvature(name=name, value=constant * regime.patches**power, exponent=power, multiplicity=count)
        for name, (constant, power, count) in constants.items()
    }
    difference = regime.patches**-local - shown * regime.patches ** (-2 * wide)
    value = gamma * shown * m2 * difference / regime.patches
    found["other keys"] = Curvature(
        name="other keys", value=value, exponent=-1 - min(local, 2 * wide), multiplicity=1.0
    )
    return found


def own_area_curvature(latent: float, attention: float, mask_ratio: float = 0.5) -> float:
    """Return ∂²L/∂φ_a² = −γ z⁴ A (1 − A)² (1 − 3A) of a query that gives A to its own area and the rest to no area.

    Negative up to A = 1/3, where the loss falls fastest; from −0.060 γz⁴ at A = 0.14 to 0.077 γz⁴ at A = 0.61. One
    latent z = ``latent``. Source: our notes, derivations.md.

    >>> vd.theory.own_area_curvature(1.0, 0.5)
    0.03125
    """
    require_real("latent", latent, low=0.0, high=1e6)
    require_real("attention", attention, low=0.0, high=1.0)
    require_real("mask_ratio", mask_ratio, low=0.0, high=1.0, open_low=True, open_high=True)
    return -mask_ratio * latent**4 * attention * (1 - attention) ** 2 * (1 - 3 * attention)


def curvature_after(start: float, time: float) -> float:
    """Return λ(t) = 1/(t + 1/λ(0)), the curvature where gradient flow goes down an exponential, λ(0) = ``start``.

    L = c e^{kφ} has λ = k² c e^{kφ} and dφ/dt = −k c e^{kφ}, so dλ/dt = −λ²: 1/λ is a clock. Masked reconstruction goes
    down three exponentials: φ_1 in phase I (λ > 0); φ_a in phase II, λ = −1/(T − t) with T = 1/|λ(0)|; and the tail,
    λ = 1/(t − T). Raises ``ValueError`` beyond T, where a negative curvature has become infinite. Source: our notes,
    derivations.md.

    >>> vd.theory.curvature_after(-0.02, 25.0), vd.theory.curvature_after(0.5, 8.0)
    (-0.04, 0.1)
    """
    require_real("start", start, low=-1e300, high=1e300)
    require_real("time", time, low=0.0, high=1e300)
    if start == 0:
        return 0.0
    end = -1 / start if start < 0 else inf
    if time >= end:
        raise invalid_value("time", time, f"must be below {end:g}, where the curvature becomes infinite")
    return 1 / (time + 1 / start)
