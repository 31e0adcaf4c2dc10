"""L layers with a residual, t ← t + attention · t, positions in all queries and keys: drives at Q = 0 by layer.

At Q = 0 layer ℓ adds the mean of all tokens to each: t^ℓ_p = u_p X_p + (2^ℓ − 1) s, s = (1/P) Σ_q u_q X_q. The shift
is common to all keys, so every layer's attention has the same first derivative; a change of token p in layer ℓ
reaches its own output once and, by the means above, each output (2^{L−ℓ} − 1)/P times. Derived in the notes,
beyond_one_layer.md.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from jaxtyping import Float

from vitdyn._errors import require_boolean, require_choice, require_integer, require_real
from vitdyn.data import AreaSizes, Distribution
from vitdyn.theory.perturbed_data import NAMES, OBJECTIVES, start_drives
from vitdyn.theory.query_at_start import QueryAtStart, require_start
from vitdyn.theory.regime import checked


@checked
def depth_drives(
    sizes: AreaSizes,
    distribution: Distribution,
    objective: str = "reconstruction",
    *,
    layers: int = 2,
    mask_ratio: float = 0.5,
    clusters: int = 1,
) -> dict[str, Float[np.ndarray, " layer"]]:
    """Return dφ^ℓ/dt at Q = 0 of a local query to its own, the global and any other local area, for ℓ = 1, …, L.

    Outputs are the stream after the last layer, tokens without position codes. Exact; contrast at vanishing
    similarity in units of κ/P. To leading order, ν = 1 − γ:

        reconstruction   own γνm_3 C_s/P in every layer
                         global −γν²m_3 C_1²/P² ((2^L − 1) 2^{L−ℓ} − (2^{L−ℓ} − 1)/ν)
        contrast         2^{2L−ℓ} times those of one layer

    Source: ours.

    >>> sizes = vd.AreaSizes.from_exponents(1e6, kappa_c=0.7, kappa_s=0.3)
    >>> drives = vd.theory.depth_drives(sizes, vd.Constant(value=1.0), layers=3)
    >>> (drives["global"] / drives["global"][-1]).round(2)  # the last layer is pushed away least
    array([3.14, 1.71, 1.  ])
    """
    require_choice("objective", objective, OBJECTIVES)
    require_start(sizes, mask_ratio, clusters)
    require_integer("layers", layers, at_least=1, at_most=64)
    above = 2.0 ** np.arange(layers - 1, -1, -1)  # 2^{L−ℓ}
    if objective == "contrast":
        of = {"mask_ratio": mask_ratio, "clusters": clusters}
        alone = start_drives(sizes, distribution, "contrast", **of)  # type: ignore[arg-type]
        return {name: 2.0**layers * above * each for name, each in alone.items()}
    copies = 2**layers - 1
    own = _of_its_own_output(sizes, distribution, mask_ratio, copies)
    pooled = _of_all_outputs(sizes, distribution, mask_ratio, copies)
    return {
        name: (one + (above - 1) * every) / clusters
        for name, one, every in zip(NAMES, own, pooled, strict=True)
    }


def layer_share(layers: int) -> float:
    """Return 2^{1/L} − 1, the own-area attention of each of L layers when they have found the area together.

    Layers that attend to it by A each hold (1 + A)^L − 1 of the feature, which is all of it at 1. As they have one
    drive they arrive together. A heuristic: counts at their means, equal layers, no attention to masked keys. Refuted
    by runs, in which the last layer takes all of it (DEPTH-AREA). Source: ours.

    >>> [round(vd.theory.layer_share(layers), 2) for layers in (1, 2, 3, 4)]
    [1.0, 0.41, 0.26, 0.19]
    """
    require_integer("layers", layers, at_least=1, at_most=10**6)
    return float(2 ** (1 / layers) - 1)


@checked
def contrast_rises(layers: int, share: float, *, left_out: bool = False) -> Float[np.ndarray, " layer"]:
    """Return by how much contrast's similarity falls, in units of z², where layer ℓ is as at Q = 0, or is left out.

    Where all layers have come to attend to the visible global area, its coordinate in the mean output is 2^L − 1 + ρ
    of z, ρ = νC_1/P its ``share`` at Q = 0. It lacks 2^{L−ℓ}(1 − ρ) where layer ℓ attends uniformly, and 2^{L−1}
    where ℓ is left out, whichever it is. To leading order at a high temperature the loss rises in proportion. Source:
    ours.

    >>> vd.theory.contrast_rises(2, 0.25).round(2)
    array([7.5 , 4.31])
    """
    require_integer("layers", layers, at_least=1, at_most=64)
    require_real("share", share, low=0.0, high=1.0, open_low=True, open_high=True)
    require_boolean("left_out", left_out)
    above = 2.0 ** np.arange(layers - 1, -1, -1)
    whole = above.sum() + share
    lacking = np.full(layers, above[0]) if left_out else above * (1 - share)
    return whole**2 - (whole - lacking) ** 2


def _of_its_own_output(
    sizes: AreaSizes, distribution: Distribution, gamma: float, copies: int
) -> Float[np.ndarray, " area"]:
    """Return drives by the query's own residual, z_a δ_{aj} − (2^L − 1) z_j A_j, where it is masked."""
    query = QueryAtStart.masked(sizes, distribution, gamma)
    pulls = [-z * x * copies for z, x in zip(query.z, query.content, strict=True)]
    pulls[0] = pulls[0] + query.z[0] * query.z[0]
    return gamma * query.means(query.drives(pulls))


def _of_all_outputs(
    sizes: AreaSizes, distribution: Distribution, gamma: float, copies: int
) -> Float[np.ndarray, " area"]:
    """Return drives by the sum of all masked queries' residuals over P, of own, global and other areas."""
    query = QueryAtStart.pooled(sizes, distribution, gamma)
    shares = [Fraction(size) / Fraction(sizes.patches) for size in (sizes.global_size, sizes.local_size)]
    shown = 1 + Fraction(gamma) * copies
    pulls = [z * z * (share - A * shown) for z, A, share in zip(query.z, query.A, shares, strict=True)]
    wide, local = query.means(query.drives(pulls))
    return np.array([local, wide, local])
