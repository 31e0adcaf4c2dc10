"""Noise on patches and features that are not orthogonal: drives at Q = 0, exactly, and the levels that reverse them.

Patches X_q = z_j v_j + n_q in the d = K N coordinates of feature space; noise n_q of standard deviation s in each,
the same in both views and in the target; ⟨v_i, v_j⟩ = c for i ≠ j, of one cluster or two. With F = (1/P) Σ_{q
visible} X_q a query's row of Φ moves along −∂L/∂Φ_p = E[(1/P) Σ_{q visible} X_q ⟨X_q − F, r⟩], r = X_p − F for
reconstruction and, at vanishing similarity, κ(F'' − E F^b)/P for contrast. The drive of area i is its part along v_i:
a polynomial in counts and latents, linear in s² and of second degree in c. Derived in the notes, beyond_one_layer.md.
"""

from __future__ import annotations

from fractions import Fraction
from math import inf, log, sqrt

import numpy as np
from jaxtyping import Float

from vitdyn._errors import require_choice, require_real
from vitdyn.data import AreaSizes, Distribution
from vitdyn.theory.predictions import OURS, Prediction
from vitdyn.theory.query_at_start import QueryAtStart, require_start
from vitdyn.theory.regime import Regime, checked

OBJECTIVES = ("reconstruction", "contrast")
NAMES = ("own", "global", "other")
Parts = Float[np.ndarray, "part area"]
"""Rows: the drive along v_j of orthogonal features, what replaces it at c = 1, what s² = 1 adds."""


@checked
def start_drives(
    sizes: AreaSizes,
    distribution: Distribution,
    objective: str = "reconstruction",
    *,
    noise: float = 0.0,
    coherence: float = 0.0,
    mask_ratio: float = 0.5,
    clusters: int = 1,
) -> dict[str, float]:
    """Return dφ/dt at Q = 0 of a local query, φ_i = ⟨Φ_p, v_i⟩ to its own, the global and any other local area.

    ``noise`` is s, ``coherence`` c, as ``PatchGenerator`` has them. Reconstruction: of a query masked in a share γ of
    the samples. Contrast: independent views, in units of κ/P with κ = M/((M + 1) τ), M negatives; own and other are
    alike. Exact at any sizes for noise that is symmetric about 0. Source: ours.

    To leading order noise adds to reconstruction's own γνs² m_1, to its global −γν²s² m_1 P^{−(1−κ_c)}; to contrast's
    every area ν²(1 − ν)s² (d + 1) m_1 C_j/P². Coherence adds γν(1 − ν)c m_1(m_2 − νm_1²)C_j/P to every area j in
    reconstruction, which is a push towards whatever is visible.

    >>> sizes = vd.AreaSizes.from_exponents(1e6, kappa_c=0.7, kappa_s=0.3)
    >>> for c in (0.0, 0.1):
    ...     drives = vd.theory.start_drives(sizes, vd.Constant(value=1.0), coherence=c)
    ...     print(drives["own"] > drives["global"])
    True
    False
    """
    require_real("noise", noise, low=0.0, high=1e6)
    require_real("coherence", coherence, low=0.0, high=1.0)
    parts, counts = _parts(sizes, distribution, objective, mask_ratio, clusters)
    signal, coherent, noisy = parts
    along = (1 - coherence) * signal + coherence * coherent + noise**2 * noisy
    drives = (1 - coherence) / clusters * along + coherence * float(counts @ along)
    return dict(zip(NAMES, map(float, drives), strict=True))


@checked
def noise_levels(
    sizes: AreaSizes,
    distribution: Distribution,
    objective: str = "reconstruction",
    *,
    mask_ratio: float = 0.5,
    clusters: int = 1,
) -> dict[str, float]:
    """Return the noise s at which drives at Q = 0 reverse: "own below global", "own sign" and "global sign".

    0 where the order or the sign is so without noise, inf where no noise brings it about. For reconstruction all of
    them are inf (or 0, if so at once): noise on visible keys *raises* a query's drive to its own area. Source: ours.
    """
    (signal, _, noisy), _ = _parts(sizes, distribution, objective, mask_ratio, clusters)
    return {name: sqrt(each) for name, each in _levels(np.array([signal, noisy]), high=inf).items()}


@checked
def coherence_levels(
    sizes: AreaSizes,
    distribution: Distribution,
    objective: str = "reconstruction",
    *,
    mask_ratio: float = 0.5,
    clusters: int = 1,
) -> dict[str, float]:
    """Return the coherences c at which drives at Q = 0 reverse: "own below global", "own sign" and "global sign".

    0 where the order (own below global) is so at c = 0, inf where no c in (0, 1) does it. Reconstruction's first, to
    leading order: c/(1 − c) = m_3 (C_s/C_1 + νC_1/P)/((1 − ν) m_1 (m_2 − νm_1²)). Source: ours.

    >>> sizes = vd.AreaSizes.from_exponents(1e8, kappa_c=0.7, kappa_s=0.4)
    >>> levels = vd.theory.coherence_levels(sizes, vd.Constant(value=1.0))
    >>> levels["own below global"] < 0.1
    True
    """
    (signal, coherent, _), counts = _parts(sizes, distribution, objective, mask_ratio, clusters)
    bend = coherent - signal
    shared, shared_bend = counts @ signal, counts @ bend
    # (1 − c)/K (D + c B) + c (S + c T), by powers of c
    powers = [signal / clusters, (bend - signal) / clusters + shared, shared_bend - bend / clusters]
    return _levels(np.array(powers), high=1.0)


@checked
def noisy_attention(
    sizes: AreaSizes, distribution: Distribution, noise: float, *, mask_ratio: float = 0.5, clusters: int = 1
) -> dict[str, float]:
    """Return the attention to its own area that costs a masked query least: 1/(1 + d s²/(m_2 V)), "local" and "global".

    ½m_2(1 − A)² + ½d s² A²/V with A spread over V = (1 − γ)C visible keys, d = K N coordinates of noise: the rest
    goes to masked keys, which carry none. Half at s² = m_2 V/d, ≍ P^{−(1−2κ_s)} for a local area. Counts at their
    means, and attention that does not choose among keys by their noise. Source: ours.

    >>> sizes = vd.AreaSizes(patches=100.0, global_size=60.0, local_size=8.0)
    >>> {area: round(each, 2) for area, each in noisy_attention(sizes, vd.Constant(value=1.0), 0.45).items()}
    {'local': 0.74, 'global': 0.96}
    """
    require_start(sizes, mask_ratio, clusters)
    require_real("noise", noise, low=0.0, high=1e6)
    shown = (1 - mask_ratio) * sizes.patches / (sizes.patches - 1)
    spread = _features(sizes, clusters) * noise**2 / distribution.second_moment / shown
    areas = {"local": sizes.local_size, "global": sizes.global_size}
    return {name: (size - 1) / (size - 1 + spread) for name, size in areas.items()}


@checked
def noise_detection_limit(regime: Regime, distribution: Distribution) -> Prediction:
    """Return s at which correlations with a feature, however large, no longer find an area's keys among P noisy ones.

        s = z/((1 − √κ_s) √(2 log P))   for some z in [L, U];   inf at κ_s = 1

    Beyond it the largest of P noises, s√(2 log P), outdoes z + s√(2 log C_s), the largest in the area. Position
    correlations are free of noise and may still find it, C_s times slower. Leading order in √log P. Source: ours.
    """
    room = (1 - sqrt(regime.kappa_s)) * sqrt(2 * log(regime.patches))
    low, high = (each / room if room else inf for each in (distribution.low, distribution.high))
    words = "standard deviation of noise beyond which a feature does not tell an area's keys from others"
    note = "beyond_one_layer.md#noise-and-coherence"
    return Prediction(symbol="s", low=low, high=high, statement=words, source=OURS, note=note)


def _parts(
    sizes: AreaSizes, distribution: Distribution, objective: str, mask_ratio: float, clusters: int
) -> tuple[Parts, Float[np.ndarray, " area"]]:
    """Return the drives' parts along v_j of one sample's cluster, and how many areas are alike."""
    require_choice("objective", objective, OBJECTIVES)
    require_start(sizes, mask_ratio, clusters)
    make = _reconstruction if objective == "reconstruction" else _contrast
    return make(sizes, distribution, mask_ratio, clusters), np.array([1.0, 1.0, sizes.local_areas - 1])


def _reconstruction(sizes: AreaSizes, distribution: Distribution, gamma: float, clusters: int) -> Parts:
    query = QueryAtStart.masked(sizes, distribution, gamma)
    z, content = query.z, query.content
    pulls = [-z * x for z, x in zip(z, content, strict=True)]
    pulls[0] = pulls[0] + z[0] * z[0]
    total = query.total(content)
    coherent = [x * (z[0] - total) * (each - total) for x, each in zip(content, z, strict=True)]
    kept = (1 - gamma) * (1 - 1 / sizes.patches)
    damped = (_features(sizes, clusters) + 1) * gamma / sizes.patches + kept
    own = np.array([kept * distribution.mean, 0.0, 0.0])
    noisy = own - damped * query.means(content)
    return gamma * np.array([query.means(query.drives(pulls)), query.means(coherent), noisy])


def _contrast(sizes: AreaSizes, distribution: Distribution, gamma: float, clusters: int) -> Parts:
    query = QueryAtStart.pooled(sizes, distribution, gamma)
    z, content, mean = query.z, query.content, query.masks.moments[1]
    # a second view is linear in its counts: their mean stands for them
    second = [Fraction((1 - gamma) * size / sizes.patches) for size in (sizes.global_size, sizes.local_size)]
    pulls = [z * (z - mean / clusters) * a for z, a in zip(z, second, strict=True)]
    more = query.total([(z - mean) * a for z, a in zip(z, second, strict=True)])
    coherent = [x * more * (z - query.total(content)) for x, z in zip(content, z, strict=True)]
    noisy = (1 - gamma) * gamma * (_features(sizes, clusters) + 1) / sizes.patches * query.means(content)
    wide, other = np.array([query.means(query.drives(pulls)), query.means(coherent), noisy]).T
    return np.array([other, wide, other]).T


def _features(sizes: AreaSizes, clusters: int) -> float:
    """Return d = K N, the coordinates of feature space."""
    return clusters * (1 + sizes.local_areas)


def _levels(powers: Float[np.ndarray, "power area"], high: float) -> dict[str, float]:
    """Return where polynomials of (own, global, other) first change their sign; own − global where its order does."""
    own, wide = powers[:, 0], powers[:, 1]
    below = 0.0 if own[0] <= wide[0] else _first_root(own - wide, high)
    return {
        "own below global": below,
        "own sign": _first_root(own, high),
        "global sign": _first_root(wide, high),
    }


def _first_root(polynomial: Float[np.ndarray, " power"], high: float) -> float:
    found = np.polynomial.polynomial.polyroots(polynomial)
    real = found.real[(np.abs(found.imag) < 1e-9) & (found.real > 0) & (found.real < high)]
    return float(real.min()) if real.size else inf
