"""Whether one number orders models as another does."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value, require_integer
from vitdyn.metrics.arrays import Array, as_float64
from vitdyn.metrics.measured import Convention, Measured, one_of, resolve


@dataclass(frozen=True, kw_only=True)
class AgreementConvention(Convention):
    """Which coefficient: "spearman", ρ of average ranks, or "kendall", τ_b."""

    coefficient: str = one_of("spearman", "kendall")


_MOST_RESAMPLES = 10**6
_PAIRS_AT_ONCE = 2**21
"""Pairs of models whose signs are held at once."""

AGREEMENT = {"spearman": AgreementConvention(), "kendall": AgreementConvention(coefficient="kendall")}


def rank_agreement(
    scores: Float[Array, "*batch model"],
    quality: Float[Array, "*batch model"],
    *,
    convention: str | AgreementConvention = "spearman",
) -> Measured:
    """Rank correlation of two numbers over models: 1 for the same order, −1 for the opposite one. Value: (*batch).

    Spearman's ρ is the Pearson correlation of the ranks, ties at their mean rank. Kendall's τ_b is
    (concordant − discordant)/√((n₀ − n₁)(n₀ − n₂)) with n₀ pairs, n₁ and n₂ of them tied in one or the other.
    NaN where all models tie in either, or a number is not finite: these are metrics of models, of which one may have
    none. Memory: a few arrays (model, model). Raises ``ValueError`` for fewer than two models.

    scipy gives the same numbers for one pair of rows a call; a bootstrap needs thousands of pairs, here taken together.
    """
    convention = resolve(convention, AGREEMENT)
    first = as_float64("scores", scores, "model", (2,), finite=False)
    second = as_float64("quality", quality, "model", (2,), finite=False, beside=first)
    if first.shape != second.shape:
        raise invalid_value(
            "shape of quality", tuple(second.shape), f"must be that of scores, {tuple(first.shape)}"
        )
    models = first.shape[-1]
    together = torch.stack([first, second]).reshape(2, -1, models)
    rows = max(1, _PAIRS_AT_ONCE // models**2)
    found = [_correlation(part, convention.coefficient) for part in together.split(rows, 1)]
    return Measured(torch.cat(found).reshape(first.shape[:-1]), convention)


def _correlation(values: Float[Tensor, "side row model"], coefficient: str) -> Float[Tensor, " row"]:
    """Return ρ or τ_b of each row, both from the signs of differences: a rank, centred, is half a sum of them."""
    signs = torch.sign(values[..., :, None] - values[..., None, :])
    one, other = signs.sum(-1) if coefficient == "spearman" else signs.flatten(2)
    found = (one * other).sum(-1) / (one.square().sum(-1) * other.square().sum(-1)).sqrt()
    return found.where(values.isfinite().all(-1).all(0), nan)


def agreement_interval(
    scores: Float[Array, "seed model"],
    quality: Float[Array, "seed model"],
    *,
    convention: str | AgreementConvention = "spearman",
    resamples: int = 400,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return the rank correlation, its mean over seeds, with a 95 % percentile interval over resampled models.

    The bootstrap draws as many models with replacement, the same ones for all seeds: the interval says how much the
    value owes to the choice of the models. Resamples in which all tie are left out. Where the value is NaN, all are.
    """
    require_integer("resamples", resamples, at_least=2)
    if resamples > _MOST_RESAMPLES:
        raise invalid_value("resamples", resamples, f"must be {_MOST_RESAMPLES} or less")
    require_integer("seed", seed, at_least=0)
    first = as_float64("scores", scores, "seed model", (1, 2), finite=False).detach()
    second = as_float64("quality", quality, "seed model", (1, 2), finite=False, beside=first).detach()
    value = float(rank_agreement(first, second, convention=convention).value.mean())
    if isnan(value):
        return nan, nan, nan
    rng, models = np.random.default_rng(seed), first.shape[-1]
    # Models are resampled and not seeds: the same ones for every seed.
    picks = torch.from_numpy(rng.integers(0, models, (resamples, models)))
    drawn = rank_agreement(first[..., picks], second[..., picks], convention=convention).value
    low, high = np.nanquantile(drawn.flatten(0, -2).mean(0).cpu().numpy(), (0.025, 0.975))
    return value, float(low), float(high)
