"""From masses to shares and on to pulls, for 16 queries of a chunk of 32 samples: samples side by side in registers.

With w_j = e^{x_j} W_j, x_j = z_j Φ_j, A_j = w_j / Z, and Z = w_a + V for a query of area a, V = W_0 + Σ_{j ≠ a} w_j and
W_0 = T − Σ_j W_j, masked reconstruction has G_j = s_j (A_j − 1{j = a}) at a masked query. A_a − 1 is −V / Z, so that
nothing cancels out where attention is nearly all on the own area:

    Ḡ = (Σ_{j ≠ a} s_j w_j² / Z − s_a w_a V / Z) / Z
    y_j = (s_j w_j / Z − Ḡ) / Z,  y_a = −(s_a V / Z + Ḡ) / Z,  ∂L/∂Φ_j = Σ_b z_j w_j y_j
    R_j (G_j − Ḡ) + R_0 Ḡ = e^{x_j} y_j + Ḡ / Z

and 0 at a visible one. About 50 operations on 16 numbers for a query, area and 32 samples, of which 18 are powers and
14 cut the pulls to pieces. No exponent is shifted: that is for ``rows``.
"""

from __future__ import annotations

from vitdyn.attention.rows_powers import two_to_product
from vitdyn.attention.rows_shares import AHEAD, LEAST_SHARE
from vitdyn.attention.rows_vector import (
    CHUNK,
    choose,
    compiled,
    multiply_add,
    repeat,
    row,
    set_row,
    smaller,
    splat,
)
from vitdyn.attention.tiles_lanes import bits_of, pick
from vitdyn.attention.tiles_unit import PIECES, SIDE, cut, stay_awake


@compiled
def pull(
    chunk, latents, strength, phi, block_phi, places, own, first, queries, shown, totals, masses, step,
    ratios, weighted, pulls, scales, pieces, slopes, everywhere, margin,
):  # pragma: no cover  (compiled)  # fmt: skip
    """Write the pieces of the pulls of a chunk of samples, add to ``slopes`` (query · area) and to ``everywhere``.

    ``latents`` are in units that make x_j one of log 2. A row of ``places`` (chunk · area) says where in rows of
    ``block_phi`` samples find their Φ; for a single cluster ``phi`` will do. ``shown`` and ``own`` are words of the
    chunk's samples: those that show a patch, and (patch, area) those for which it is in the area. How far Z stays above
    the error of W_0 as a difference goes to ``margin``, if it is less than what is there.
    """
    clusters, areas = phi.shape[1:]
    zero, one = splat(masses.dtype.type(0)), splat(masses.dtype.type(1))
    least, of_phi = masses.dtype.type(LEAST_SHARE), block_phi.shape[0] // SIDE
    for group in range(0, queries, AHEAD):
        last = min(group + AHEAD, queries)
        stay_awake()
        # all before any is used: a quotient takes long, and others fill the time
        for u in range(group, last):
            place = (u - group) * areas
            masked, rest, square, of_own, strong_own = repeat(totals, u), zero, zero, zero, zero
            for j in range(areas):
                mass = row(masses, (chunk * areas + j) * step + u)
                of_query = u * areas + j
                if clusters == 1:
                    own_phi = repeat(phi, first * areas + of_query)
                else:
                    own_phi = pick(block_phi, u * of_phi + min(j, of_phi - 1), places, chunk * areas + j)
                ratio = two_to_product(own_phi, row(latents, chunk * areas + j))
                share = ratio * mass
                strong = row(strength, chunk * areas + j) * share
                set_row(ratios, place + j, ratio)
                set_row(weighted, place + j, share)
                set_row(pulls, place + j, strong)
                masked = masked - mass
                if own[first + u, j]:
                    here = bits_of(own[first + u, j], zero)
                    of_own, strong_own = choose(here, share, of_own), choose(here, strong, strong_own)
                    share = choose(here, zero, share)
                square = multiply_add(strong, share, square)
                rest = rest + share
            rest = rest + masked
            whole = rest + of_own
            set_row(margin, 0, smaller(row(margin, 0), whole - splat(least * totals[u])))
            inverse = one / whole
            lacking = inverse * rest
            mean = inverse * (inverse * square - lacking * strong_own)
            hidden = choose(bits_of(shown[first + u], zero), zero, inverse)
            set_row(scales, 3 * (u - group), hidden * inverse)
            set_row(scales, 3 * (u - group) + 1, hidden * mean)
            set_row(scales, 3 * (u - group) + 2, zero - hidden * lacking)
        for u in range(group, last):
            place = (u - group) * areas
            at = 3 * (u - group)
            scale, of_masked, lacking = row(scales, at), row(scales, at + 1), row(scales, at + 2)
            less = zero - of_masked
            set_row(everywhere, u, row(everywhere, u) + of_masked)
            for j in range(areas):
                away = multiply_add(row(pulls, place + j), scale, less)
                if own[first + u, j]:
                    of_own = multiply_add(lacking, row(strength, chunk * areas + j), less)
                    away = choose(bits_of(own[first + u, j], zero), of_own, away)
                by_feature = row(weighted, place + j) * away
                slope = multiply_add(row(latents, chunk * areas + j), by_feature, row(slopes, u * areas + j))
                set_row(slopes, u * areas + j, slope)
                pulled = multiply_add(row(ratios, place + j), away, of_masked)
                cut(pulled, pieces, ((chunk * areas + j) * PIECES * SIDE + u) * CHUNK)
