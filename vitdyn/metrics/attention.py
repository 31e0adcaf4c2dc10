"""Measures of attention maps."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_integer


def attention_diversity(
    attention: Float[Tensor, "*batch query key"], *, top: int = 10
) -> Float[Tensor, "*batch"]:
    """How far different queries concentrate on the same keys: lower means more diverse attention.

    With the key score s_k = (1/Q) Σ_q attention[q, k], the measure is the mean of the ``top`` largest
    scores. Uniform and permutation attention both give 1/K (this measure cannot tell them apart), one
    key that takes all gives 1/top. ``top`` larger than the number K of keys counts all K.

    Source: after appendix B of Huang et al. (arXiv 2403.02233), as recalled: its formula was not at
    hand, so ``top`` and the averaging over the top scores are stated here and not checked against it.
    """
    require_integer("top", top, at_least=1)
    scores = attention.mean(-2)
    return scores.topk(min(top, scores.shape[-1]), dim=-1).values.mean(-1)
