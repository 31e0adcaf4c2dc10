"""How alike representations are: cosine homogeneity over tokens, heads and depth, and CKA."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value, require_choice
from vitdyn.losses import unit_vectors
from vitdyn.metrics.arrays import Array, as_float64, real, require_alike
from vitdyn.metrics.measured import Convention, Measured, blockwise, centred, one_of, over, resolve


@dataclass(frozen=True, kw_only=True)
class CosineConvention(Convention):
    """What a vector of length 0 does, which has no direction: its pairs are "omitted", or count as 0 ("zero")."""

    without_direction: str = one_of("omitted", "zero")


@dataclass(frozen=True, kw_only=True)
class AlignmentConvention(Convention):
    """Which estimate of HSIC a CKA is made of: the plain one, or the ``unbiased`` one (Song et al. 2012)."""

    unbiased: bool = False


COSINE = {"exact": CosineConvention(), "torch": CosineConvention(without_direction="zero")}
CKA = {"exact": AlignmentConvention(), "unbiased": AlignmentConvention(unbiased=True)}


def homogeneity(
    vectors: Float[Array, "*batch token feature"],
    *,
    over: str,
    convention: str | CosineConvention = "exact",
) -> Measured:
    """Cosine similarity of representations, or of attention maps (whose tokens are queries, features keys).

    ``over``:

        "token"  (*batch, token, feature) -> (*batch): mean of cos(x_i, x_j) over pairs of tokens i ≠ j.
        "head"   (*batch, head, token, feature) -> (*batch): the same over pairs of heads, mean over tokens.
        "depth"  (*batch, depth, token, feature) -> (*batch, depth): cos of each token with itself at the last
                 depth, mean over tokens.

    1 where all point the same way; −1/(n − 1) for the corners of a simplex; NaN where no pair is left.

    Source: Park et al. (2023) show all three without a formula; these are the plainest readings. Convention
    ``torch`` counts a vector of length 0 as torch's own cosine does; ``exact`` leaves its pairs out.
    """
    convention = resolve(convention, COSINE)
    require_choice("over", over, ("token", "head", "depth"))
    if over == "token":
        vectors = real("vectors", vectors, "token feature", (2, 1), ranged=False)
        return Measured(
            blockwise(lambda block: _pairwise(*_directions(block), convention), vectors, 2), convention
        )
    vectors = real(
        "vectors", vectors, f"{over} token feature", (2 if over == "head" else 1, 1, 1), ranged=False
    )
    measure = _over_heads if over == "head" else _to_the_last
    return Measured(blockwise(lambda block: measure(*_directions(block), convention), vectors, 3), convention)


def cka(
    first: Float[Array, "*batch sample one"],
    second: Float[Array, "*batch sample two"],
    *,
    convention: str | AlignmentConvention = "exact",
) -> Measured:
    """Linear centred kernel alignment, HSIC(X, Y) / √(HSIC(X, X) HSIC(Y, Y)), of the same samples. Value: (*batch).

    With X, Y centred over samples, HSIC(X, Y) ∝ ‖XᵀY‖²_F. 1 for Y = cXO + b with O orthogonal, 0 for
    uncorrelated features, and 0 where either representation is constant (the formula says 0/0: nothing varies,
    so nothing is shared).

    ``exact`` is this (Kornblith et al. 2019); it is biased towards 1 when features are many. ``unbiased``
    replaces each HSIC by its unbiased estimate from n ≥ 4 samples (Song et al. 2012; Nguyen et al. 2021): with
    K, L the Gram matrices less their diagonals,
    HSIC = [tr KL + (1ᵀK1)(1ᵀL1)/((n−1)(n−2)) − 2/(n−2) 1ᵀKL1] / (n(n−3)); a self-term ≤ 0 gives 0.
    """
    convention = resolve(convention, CKA)
    least = 4 if convention.unbiased else 2
    x = centred(as_float64("first", first, "sample feature", (least, 1)))
    y = centred(as_float64("second", second, "sample feature", (least, 1), beside=x))
    if x.shape[-2] != y.shape[-2]:
        raise invalid_value("second", tuple(y.shape), f"must hold the same {x.shape[-2]} samples as first")
    require_alike("second", y.shape[:-2], x.shape[:-2])
    x, y = _scaled(x), _scaled(y)
    dependence = _unbiased_hsic if convention.unbiased else _plain_hsic
    # Unbiased estimates of what is not negative may come out so.
    selves = dependence(x, x).clamp_min(0), dependence(y, y).clamp_min(0)
    scale = torch.sqrt(selves[0]) * torch.sqrt(selves[1])
    return Measured(over(dependence(x, y), scale, empty=0.0), convention)


def _directions(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return unit vectors, 0 for vectors of length 0, and which have a direction."""
    return unit_vectors(vectors), (vectors != 0).any(-1)


def _pairwise(unit: Tensor, directed: Tensor, convention: CosineConvention) -> Tensor:
    """Return the mean cosine over ordered pairs: (‖Σ u‖² − Σ ‖u‖²) / number of pairs."""
    total = unit.sum(-2).square().sum(-1) - unit.square().sum((-2, -1))
    number = directed.sum(-1)
    if convention.without_direction == "zero":
        number = torch.full_like(number, unit.shape[-2])
    return over(total, number * (number - 1))


def _over_heads(unit: Tensor, directed: Tensor, convention: CosineConvention) -> Tensor:
    """Return the mean over tokens of the mean cosine over pairs of heads."""
    return _pairwise(unit.transpose(-3, -2), directed.transpose(-2, -1), convention).nanmean(-1)


def _to_the_last(unit: Tensor, directed: Tensor, convention: CosineConvention) -> Tensor:
    """Return the mean over tokens of the cosine with the same token at the last depth, for each depth."""
    both = directed & directed[..., -1:, :]
    if convention.without_direction == "zero":
        both = torch.ones_like(both)
    return over((unit * unit[..., -1:, :, :]).sum((-2, -1)), both.sum(-1))


def _scaled(values: Tensor) -> Tensor:
    """Return values of largest entry 1, which CKA does not see; fourth powers then stay in range."""
    largest = values.abs().amax((-2, -1), keepdim=True)
    return values / torch.where(largest == 0, 1.0, largest)


def _plain_hsic(x: Tensor, y: Tensor) -> Tensor:
    """Return ‖XᵀY‖² from whichever of XᵀY and the two Gram matrices is the smaller."""
    samples = x.shape[-2]
    if samples * samples < x.shape[-1] * y.shape[-1]:
        return ((x @ x.mT) * (y @ y.mT)).sum((-2, -1))
    return (x.mT @ y).square().sum((-2, -1))


def _unbiased_hsic(x: Tensor, y: Tensor) -> Tensor:
    n = x.shape[-2]
    k, m = (gram - torch.diag_embed(gram.diagonal(dim1=-2, dim2=-1)) for gram in (x @ x.mT, y @ y.mT))
    of_k, of_m = k.sum(-1), m.sum(-1)
    separate = of_k.sum(-1) * of_m.sum(-1) / ((n - 1) * (n - 2))
    crossed = 2 / (n - 2) * (of_k * of_m).sum(-1)
    return ((k * m).sum((-2, -1)) + separate - crossed) / (n * (n - 3))
