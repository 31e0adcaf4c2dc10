"""The metrics of the field by layer and head: of each head's maps, and of the stream that each layer hands on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from typing import Any

import torch
from torch import Tensor

from vitdyn._axes import HEAD, LAYER, SEED
from vitdyn._errors import require_choice, require_kind
from vitdyn.data import PatchLayout
from vitdyn.metrics import attention_distance, attention_entropy, homogeneity, mutual_information, rank_me
from vitdyn.models.model import ATTENTION_MAPS, STREAMS
from vitdyn.observables.metrics import (
    MeasuredModel,
    Metric,
    MetricImages,
    along,
    highest_frequency,
    of_finite,
)
from vitdyn.observables.observable import Observable
from vitdyn.observables.state import ModelState

_USUAL = MetricImages()


def _frequency(seen: MeasuredModel) -> Tensor:
    """Return the high frequency of each layer, the mean over images."""
    images, layers = seen.streams.shape[1:3]
    found = of_finite(lambda tokens: highest_frequency(tokens, seen.grid), seen.streams.flatten(1, 2))
    return found.unflatten(1, (images, layers)).mean(1)


def _head_similarity(seen: MeasuredModel) -> Tensor:
    """Return the mean cosine of the rows of two heads, mean over queries and images; NaN for one head."""
    if seen.maps.shape[3] < 2:
        return seen.maps.new_full((len(seen.seeds), seen.maps.shape[2]), nan, dtype=torch.float64)
    return of_finite(lambda maps: homogeneity(maps, over="head").value, seen.maps).mean(1)


_BY_DEPTH: dict[str, tuple[str, str, Callable[[MeasuredModel], Tensor]]] = {
    "head_attention_distance": (
        "d^h",
        "mean distance between query and key of a head, in patches",
        lambda seen: seen.of_maps(lambda maps: attention_distance(maps, seen.grid).value),
    ),
    "head_mutual_information": (
        "NMI^h",
        "normalised mutual information of query and key of a head",
        lambda seen: seen.of_maps(lambda maps: mutual_information(maps).value),
    ),
    "head_attention_entropy": (
        "H^h",
        "mean entropy of a query's attention in a head, in nats",
        lambda seen: seen.of_maps(lambda maps: attention_entropy(maps).value),
    ),
    "head_similarity": (
        "cos_h",
        "mean cosine of the attention maps of two heads of a layer, query by query",
        _head_similarity,
    ),
    "stream_similarity": (
        "cos^l",
        "mean cosine of two patches of an image in the stream behind a layer",
        lambda seen: of_finite(lambda tokens: homogeneity(tokens, over="token").value, seen.streams).mean(1),
    ),
    "stream_rank": (
        "rank^l",
        "effective rank of the patches of an image in the stream behind a layer",
        lambda seen: of_finite(lambda tokens: rank_me(tokens).value, seen.streams).mean(1),
    ),
    "stream_to_last": (
        "cos_L",
        "mean cosine of a patch in the stream behind a layer with itself behind the last one",
        lambda seen: of_finite(lambda tokens: homogeneity(tokens, over="depth").value, seen.streams).mean(1),
    ),
    "stream_high_frequency": (
        "Δ log amp^l",
        "log amplitude of the stream behind a layer at the highest frequency of the grid less that at 0",
        _frequency,
    ),
}
"""Symbol, meaning and formula of each."""
_OF_EACH_HEAD = ("head_attention_distance", "head_mutual_information", "head_attention_entropy")
_WHOLE = {"head_attention_distance": "attention_distance", "stream_high_frequency": "high_frequency"}
"""The metrics that ask something of a layout, and what they are called of a whole model."""


@dataclass(frozen=True, kw_only=True)
class DepthMetric:
    """A metric of each layer, or of each of its heads, by its name, on its images: what an ``Observable`` computes."""

    name: str
    images: MetricImages = _USUAL

    def __post_init__(self) -> None:
        require_choice("DepthMetric.name", self.name, _BY_DEPTH)
        require_kind("DepthMetric.images", self.images, MetricImages)

    def __call__(self, state: ModelState) -> Tensor:
        """Return the metric of each seed's model, in float64; NaN for one that is not finite."""
        return self.of(state.shared(self.images))

    def of(self, seen: MeasuredModel) -> Tensor:
        """Return the metric of models."""
        with torch.no_grad():
            found = _BY_DEPTH[self.name][2](seen)
        return found.where(along(seen.is_finite, found), nan)

    def check(self, layout: PatchLayout) -> None:
        """Raise ``ValueError`` where the metric does not exist on such a layout."""
        Metric(name=_WHOLE.get(self.name, "token_similarity"), images=self.images).check(layout)


def depth_observables(images: MetricImages = _USUAL) -> tuple[Observable, ...]:
    """Return the metrics by layer and head as observables, all measured on the same ``images``.

    A head's are means over images of what ``vitdyn.metrics`` finds of its maps (Park et al. 2023); those of the stream
    exist for models that offer "streams".

    >>> from vitdyn.observables.by_depth import depth_observables
    >>> depth_observables()[0].axes
    ('seed', 'layer', 'head')
    """
    require_kind("images", images, MetricImages)
    found = []
    for name, (symbol, meaning, _) in _BY_DEPTH.items():
        about: dict[str, Any] = {"symbol": symbol, "meaning": meaning}
        about |= {"axes": (SEED, LAYER, HEAD) if name in _OF_EACH_HEAD else (SEED, LAYER)}
        about |= {"needs": ATTENTION_MAPS if name.startswith("head") else STREAMS}
        compute = DepthMetric(name=name, images=images)
        found.append(Observable(name=name, compute=compute, may_be_missing=True, **about))
    return tuple(found)
