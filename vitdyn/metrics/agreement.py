"""Whether one number orders models as another does."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_choice, require_integer, wrong
from vitdyn.metrics.measured import Measured, chosen, double


@dataclass(frozen=True, kw_only=True)
class AgreementConvention:
    """Which coefficient: "spearman", ρ of average ranks, or "kendall", τ_b."""

    coefficient: str = "spearman"

    def __post_init__(self) -> None:
        require_choice("coefficient", self.coefficient, ("spearman", "kendall"))


_PAIRS_AT_ONCE = 2**21
"""Pairs of models whose signs are held at once."""

AGREEMENT = {"spearman": AgreementConvention(), "kendall": AgreementConvention(coefficient="kendall")}


def rank_agreement(
    scores: Float[Tensor, "*batch model"],
    quality: Float[Tensor, "*batch model"],
    *,
    convention: str | AgreementConvention = "spearman",
) -> Measured:
    """Rank correlation of two numbers over models: 1 for the same order, −1 for the opposite one. Value: (*batch).

    Spearman's ρ is the Pearson correlation of the ranks, ties at their mean rank. Kendall's τ_b is
    (concordant − discordant)/√((n₀ − n₁)(n₀ − n₂)) with n₀ pairs, n₁ and n₂ of them tied in one or the other.
    NaN where all models tie in either, or there is a NaN. Memory: a few arrays (model, model).
    Raises ``ValueError`` for fewer than two models.
    """
    used = chosen(convention, AGREEMENT)
    first = double("scores", scores, "model", (2,))
    second = double("quality", quality, "model", (2,))
    if first.shape != second.shape:
        raise wrong("shape of quality", tuple(second.shape), f"must be that of scores, {tuple(first.shape)}")
    models = first.shape[-1]
    together = torch.stack([first, second]).reshape(2, -1, models)
    rows = max(1, _PAIRS_AT_ONCE // models**2)
    found = [_correlation(part, used.coefficient) for part in together.split(rows, 1)]
    return Measured(torch.cat(found).reshape(first.shape[:-1]), used)


def _correlation(values: Float[Tensor, "side row model"], coefficient: str) -> Float[Tensor, " row"]:
    """Return ρ or τ_b of each row, both from the signs of differences: a rank, centred, is half a sum of them."""
    signs = torch.sign(values[..., :, None] - values[..., None, :])
    one, other = signs.sum(-1) if coefficient == "spearman" else signs.flatten(2)
    found = (one * other).sum(-1) / (one.square().sum(-1) * other.square().sum(-1)).sqrt()
    return found.where(values.isfinite().all(-1).all(0), nan)


def agreement_interval(
    scores: Float[Tensor, "seed model"],
    quality: Float[Tensor, "seed model"],
    *,
    convention: str | AgreementConvention = "spearman",
    resamples: int = 400,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return the rank correlation, its mean over seeds, with a 95 % percentile interval over resampled models.

    The bootstrap draws as many models with replacement, the same ones for all seeds: the interval says how much the
    value owes to the choice of the models.
    """
    require_integer("resamples", resamples, at_least=2)
    value = rank_agreement(scores, quality, convention=convention).value.mean()
    rng, models = np.random.default_rng(seed), scores.shape[-1]
    picks = torch.from_numpy(rng.integers(0, models, (resamples, models)))
    drawn = rank_agreement(scores[:, picks], quality[:, picks], convention=convention).value.mean(0)
    low, high = np.nanquantile(drawn.numpy(), (0.025, 0.975))
    return float(value), float(low), float(high)
