"""Trained values, F_p = Σ_j w_j A_j z_j v_j or W Σ_j A_j z_j v_j: rates at Q = 0, and values of uniform attention.

Values are shared by all queries and masked reconstruction is a sum over them, so w is fast by the size of an area;
contrast is a mean over queries, so w is fast by their number. Derived in the notes, beyond_one_layer.md.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from jaxtyping import Float

from vitdyn._errors import require_choice, require_real
from vitdyn.data import AreaSizes, Distribution, PatchLayout
from vitdyn.theory.perturbed_data import OBJECTIVES
from vitdyn.theory.query_at_start import QueryAtStart, require_start
from vitdyn.theory.regime import checked


@checked
def value_start_rates(
    sizes: AreaSizes,
    distribution: Distribution,
    objective: str = "reconstruction",
    *,
    local_value: float = 1.0,
    global_value: float = 1.0,
    mask_ratio: float = 0.5,
    clusters: int = 1,
) -> dict[str, float]:
    """Return d/dt at Q = 0: of w ("local value", "global value") and of a local query's φ ("own", "global").

    Exact; of contrast at vanishing similarity, in units of κ = M/((M + 1) τ). To leading order, ν = 1 − γ, w_j here:

        reconstruction   dw_j/dt = γν m_2 (1 − νw_j) C_j²/P
                         dφ_a/dt = γν m_3 w_a C_s/P,   dφ_1/dt = −γν² m_3 w_1² C_1²/P²
        contrast         dw_j/dt = κν² (m_2 − m_1²/K) w_j C_j²/P²
                         dφ_1/dt = κν² (m_3 − m_1 m_2/K) w_1² C_1²/P³

    each over K. So values lead attention by C_s in reconstruction and by P in contrast. Source: ours.

    >>> sizes = vd.AreaSizes.from_exponents(1e6, kappa_c=0.9, kappa_s=0.3)
    >>> rates = vd.theory.value_start_rates(sizes, vd.Constant(value=1.0))
    >>> rates["global value"] > rates["local value"] > rates["own"]
    True
    """
    require_choice("objective", objective, OBJECTIVES)
    require_start(sizes, mask_ratio, clusters)
    for name, value in {"local_value": local_value, "global_value": global_value}.items():
        require_real(name, value, low=-1e6, high=1e6)
    make = _reconstruction if objective == "reconstruction" else _contrast
    rates = make(sizes, distribution, local_value, global_value, mask_ratio, clusters)
    return {name: float(rate) / clusters for name, rate in rates.items()}


@checked
def uniform_values(sizes: AreaSizes, *, mask_ratio: float = 0.5) -> dict[str, float]:
    """Return the w_j of least reconstruction loss at uniform attention, E[V(C − V)]/(γ E V²), "local" and "global".

    About 1/(ν + γ/C), V visible keys of an area of C: values make up for what masks hide. When attention to the own
    area has grown to 1 they are 1 again. Exact; the same for any latents. Source: ours.

    >>> sizes = vd.AreaSizes(patches=64.0, global_size=44.0, local_size=5.0)
    >>> {area: round(w, 2) for area, w in vd.theory.uniform_values(sizes).items()}
    {'local': 1.37, 'global': 1.97}
    """
    require_start(sizes, mask_ratio, 1)
    areas = {"local": sizes.local_size, "global": sizes.global_size}
    return {name: _value_pull(sizes, size, mask_ratio, 0.0)[0] for name, size in areas.items()}


@checked
def value_moments(
    layout: PatchLayout, distribution: Distribution, mask_ratio: float = 0.5
) -> tuple[Float[np.ndarray, "feature feature"], Float[np.ndarray, "feature feature"]]:
    """Return (T, G) of reconstruction's value matrix at uniform attention, dW/dt = T − W G; features ordered (k, j).

    T = E Σ_{p masked} X_p Yᵀ, G = E Σ_{p masked} Y Yᵀ with Y = Σ_j z_jA_j v_j. Its fixed point is T G⁻¹; of a scalar
    a feature, dw_j/dt = T_jj − w_j G_jj. Gradient descent needs η < 2/λ_max(G), and λ_max(G) ≍ C_1²/P. Exact. Source:
    ours.
    """
    require_real("mask_ratio", mask_ratio, low=0.0, high=1.0, open_low=True, open_high=True)
    P, shown = layout.patches, (1 - mask_ratio) * layout.patches
    moments = np.full((layout.areas, layout.areas), distribution.mean**2)
    np.fill_diagonal(moments, distribution.second_moment)
    target, gram = (np.zeros((layout.sizes.size,) * 2) for _ in range(2))
    for cluster, sizes in enumerate(layout.sizes.astype(float)):
        pairs = np.outer(sizes, sizes) - np.diag(sizes)  # ordered pairs of different keys
        seen = shown * (shown - 1) / (P * (P - 1)) * pairs + shown / P * np.diag(sizes)
        at = slice(cluster * layout.areas, (cluster + 1) * layout.areas)
        # of C_i V_j = V_i V_j + (masked of i) V_j
        target[at, at] = moments * shown * (P - shown) / (P * (P - 1)) * pairs / P / layout.clusters
        gram[at, at] = moments * mask_ratio * seen / P / layout.clusters
    return target, gram


def _value_pull(sizes: AreaSizes, size: float, gamma: float, w: float) -> tuple[float, float]:
    """Return w* and dw/dt/m_2 of an area: visible and masked keys are met in pairs, as a uniform mask has them."""
    P, shown = sizes.patches, (1 - gamma) * sizes.patches
    crossed = shown * (P - shown) / (P * (P - 1)) * size * (size - 1)
    seen = shown / P * size + shown * (shown - 1) / (P * (P - 1)) * size * (size - 1)
    return crossed / (gamma * seen), (crossed - w * gamma * seen) / P


def _reconstruction(
    sizes: AreaSizes, law: Distribution, local: float, wide: float, gamma: float, _: int
) -> dict[str, float]:
    query = QueryAtStart.masked(sizes, law, gamma)
    weights = [Fraction(w * w) for w in (local, wide, local)]
    pulls = [-z * x * weight for z, x, weight in zip(query.z, query.content, weights, strict=True)]
    pulls[0] = pulls[0] + query.z[0] * query.z[0] * Fraction(local)
    own, away, _other = gamma * query.means(query.drives(pulls))
    small, large = (
        law.second_moment * _value_pull(sizes, size, gamma, w)[1]
        for size, w in ((sizes.local_size, local), (sizes.global_size, wide))
    )
    return {"local value": small, "global value": large, "own": own, "global": away}


def _contrast(
    sizes: AreaSizes, law: Distribution, local: float, wide: float, gamma: float, clusters: int
) -> dict[str, float]:
    query = QueryAtStart.pooled(sizes, law, gamma)
    small, large = ((1 - gamma) * size / sizes.patches for size in (sizes.local_size, sizes.global_size))
    mean = law.mean / clusters
    weights = Fraction(wide**2 * large), Fraction(local**2 * small)
    pulls = [z * (z - Fraction(mean)) * weight for z, weight in zip(query.z, weights, strict=True)]
    towards, own = query.means(query.drives(pulls)) / sizes.patches
    left = law.second_moment - law.mean * mean
    return {
        "local value": local * left * small**2,
        "global value": wide * left * large**2,
        "own": own,
        "global": towards,
    }
