"""The metrics of a deep model, one value a depth: of its attention maps and of its representations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value, require_integer
from vitdyn.metrics.arrays import Array, several
from vitdyn.metrics.attention import attention_distance, attention_entropy, mutual_information, top_key_scores
from vitdyn.metrics.rank import rank_me
from vitdyn.metrics.similarity import cka, homogeneity
from vitdyn.metrics.spectra import feature_map_variance, fourier_log_amplitude, grid_of


def attention_by_depth(
    maps: Sequence[Float[Array, "image head query key"]],
    positions: tuple[int, int] | Float[Array, "patch dimension"],
    *,
    pitch: float = 1.0,
    prefix: int = 0,
    top: int = 10,
) -> dict[str, Float[Tensor, "depth image head"]]:
    """Return the metrics of the attention maps of each block, by name, each in its convention ``exact``.

    ``attention_distance`` (in the unit of the positions: patches, or pixels where ``pitch`` is the side of a patch),
    ``mutual_information``, ``attention_entropy`` (nats) and ``top_key_scores`` (the mean of the ``top`` largest). The
    first ``prefix`` tokens, the class token for one, are dropped.
    """
    blocks = _of_one_kind("maps", several("maps", maps, "image head query key", (1, 1, 1, 1)))
    measures = {
        "attention_distance": lambda each: attention_distance(each, positions, pitch=pitch, prefix=prefix),
        "mutual_information": lambda each: mutual_information(each, prefix=prefix),
        "attention_entropy": lambda each: attention_entropy(each, prefix=prefix),
        "top_key_scores": lambda each: top_key_scores(each, top=top, prefix=prefix),
    }
    return {name: torch.stack([measure(each).value for each in blocks]) for name, measure in measures.items()}


def representations_by_depth(
    tokens: Sequence[Float[Array, "image token width"]], side: int | tuple[int, int], *, prefix: int = 0
) -> dict[str, Float[Tensor, " depth"]]:
    """Return the metrics of the representations at each depth, by name, each in its convention ``exact``.

    After the first ``prefix`` are dropped, the tokens form a grid, side² or (rows, columns). Means over images of
    ``high_frequency`` (relative log amplitude at the highest frequency of the diagonal), ``feature_map_variance`` and
    ``token_similarity`` (mean cosine of pairs of tokens); of the mean token of each image, ``rank_me`` over the images;
    and ``cka_to_last``, that of all tokens with those of the last depth.
    """
    for axis in grid_of(side):
        require_integer("side", axis, at_least=2)
    require_integer("prefix", prefix, at_least=0)
    depths = _of_one_kind("tokens", several("tokens", tokens, "image token width", (1, int(prefix) + 1, 1)))
    # To float64 once, and not in every metric.
    kept = [each[:, prefix:].to(torch.float64) for each in depths]
    last = kept[-1].flatten(0, 1)
    measures = {
        "high_frequency": lambda each: fourier_log_amplitude(each, side).value[..., -1].mean(),
        "feature_map_variance": lambda each: feature_map_variance(each).value.mean(),
        "token_similarity": lambda each: homogeneity(each, over="token").value.mean(),
        "rank_me": lambda each: rank_me(each.mean(1)).value,
        "cka_to_last": lambda each: cka(each.flatten(0, 1), last).value,
    }
    return {name: torch.stack([measure(each) for each in kept]) for name, measure in measures.items()}


def _of_one_kind(field: str, arrays: list[Tensor]) -> list[Tensor]:
    """Return the arrays; raise unless their first two axes, (image, head) or (image, token), agree at all depths."""
    shared = arrays[0].shape[:2]
    for each in arrays:
        if each.shape[:2] != shared:
            raise invalid_value(f"shape of {field}", tuple(each.shape), f"must begin with {tuple(shared)}")
    return arrays
