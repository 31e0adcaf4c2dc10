"""The metrics of the field along a run: of a model's attention maps and of its representations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, nan
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitdyn._errors import (
    invalid_value,
    require_boolean,
    require_choice,
    require_integer,
    require_kind,
    require_real,
    require_sequence,
)
from vitdyn.data import PatchBatch, PatchGenerator, PatchLayout
from vitdyn.data.masking import draw_visible, masked_count
from vitdyn.metrics import (
    attention_distance,
    attention_entropy,
    diagonal_frequencies,
    fourier_log_amplitude,
    homogeneity,
    lidar,
    mutual_information,
    rank_me,
    ridge_r_squared,
)
from vitdyn.models import LAYER, Model, Parameters
from vitdyn.models.model import ATTENTION_MAPS
from vitdyn.observables.observable import Observable
from vitdyn.observables.representation import image_representation, patch_representation
from vitdyn.observables.state import ModelState
from vitdyn.seeds import Streams

_FREQUENCIES = "cl-vs-mim"
_LEAST_IMAGES = 6
"""Images of a cluster: four to fit and two to test."""


@dataclass(frozen=True, kw_only=True)
class MetricImages:
    """On what metrics are measured: images and masks that no training step sees, the same at every frame.

    Metrics of attention maps and of patches F_p are means over ``maps`` masked images. Those of images, F = mean F_p,
    are read off ``objects`` images, as many of each cluster, with ``views`` masks each. Masks hide ``mask_ratio`` of
    the patches. Images of two clusters differ in a direction that no mask moves: ``within_cluster`` takes LiDAR and
    RankMe among the images of each cluster, and their mean over clusters; without it they see all images together.
    """

    mask_ratio: float = 0.5
    maps: int = 4
    objects: int = 256
    views: int = 16
    within_cluster: bool = True

    def __post_init__(self) -> None:
        require_real("MetricImages.mask_ratio", self.mask_ratio, low=0, high=1, open_low=True, open_high=True)
        require_integer("MetricImages.maps", self.maps, at_least=1)
        require_integer("MetricImages.objects", self.objects, at_least=_LEAST_IMAGES)
        require_integer("MetricImages.views", self.views, at_least=2)
        require_boolean("MetricImages.within_cluster", self.within_cluster)

    def __call__(self, state: ModelState) -> MeasuredModel:
        """Return the models of a state, seen through these images."""
        generator, _ = state.owners[0]
        return MeasuredModel(self, state.parameters, generator, state.batch.seeds, state.model)

    def draw(
        self, generator: PatchGenerator, seeds: tuple[int, ...], like: Tensor, images: int, views: int
    ) -> tuple[PatchBatch, Bool[Tensor, "seed view patch"]]:
        """Draw images for each seed, as many of each cluster, repeat each ``views`` times, and draw all masks."""
        layout = generator.layout
        # as many of each cluster, not drawn: LiDAR and R² of a cluster need enough images of it
        cluster = np.tile(np.arange(images) * layout.clusters // images, (len(seeds), 1))
        kind: Any = {"dtype": like.dtype, "device": like.device}
        drawn = generator.of_clusters(cluster, seeds, purpose="metrics ", **kind)
        masked = masked_count(layout.patches, self.mask_ratio)
        shown = draw_visible(Streams(seeds, "metrics masks"), images * views, layout.patches, masked)
        batch = drawn.map(lambda part: part.repeat_interleave(views, 1))
        return batch, torch.from_numpy(shown).to(like.device)


@dataclass(frozen=True)
class MeasuredModel:
    """Models seen through the images of their metrics; maps and representations are made when first asked for."""

    images: MetricImages
    parameters: Parameters
    generator: PatchGenerator
    seeds: tuple[int, ...]
    model: Model = LAYER

    def _draw(self, images: int, views: int) -> tuple[PatchBatch, Tensor]:
        return self.images.draw(self.generator, self.seeds, self.parameters.like, images, views)

    @cached_property
    def _few(self) -> tuple[PatchBatch, Tensor]:
        return self._draw(self.images.maps, 1)

    @cached_property
    def _many(self) -> tuple[PatchBatch, Tensor]:
        return self._draw(self.images.objects, self.images.views)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.generator.layout.grid or (1, 1)

    @cached_property
    def maps(self) -> Float[Tensor, "seed image layer head query key"]:
        """The attention maps of ``maps`` images."""
        return self.model.attention_maps(self.parameters, *self._few)

    def of_maps(self, measure: Callable[[Tensor], Tensor]) -> Float[Tensor, "seed layer head"]:
        """Return the mean over images of a metric of maps."""
        return of_finite(measure, self.maps).mean(1)

    def of_last_maps(self, measure: Callable[[Tensor], Tensor]) -> Float[Tensor, " seed"]:
        """Return the mean over images, and over the heads of the last layer, of a metric of maps."""
        return of_finite(measure, self.maps[:, :, -1]).flatten(1).mean(1)

    @cached_property
    def tokens(self) -> Float[Tensor, "seed image patch feature"]:
        """F_p on the images of the maps."""
        return patch_representation(self.parameters, *self._few, self.model)

    @cached_property
    def features(self) -> Float[Tensor, "seed image view feature"]:
        """F of each view of each image."""
        found = image_representation(self.parameters, *self._many, self.model).to(torch.float64)
        return found.unflatten(1, (self.images.objects, self.images.views))

    @cached_property
    def clusters(self) -> list[Bool[Tensor, " image"]]:
        """Which images are of each cluster."""
        drawn = self._many[0].cluster[0, :: self.images.views]
        return [drawn == cluster for cluster in range(self.generator.layout.clusters)]

    @cached_property
    def streams(self) -> Float[Tensor, "seed image layer patch coordinate"]:
        """What each layer hands on, on the images of the maps."""
        return self.model.streams(self.parameters, *self._few)

    @cached_property
    def is_finite(self) -> Bool[Tensor, " seed"]:
        """Of which seeds all parameters are finite."""
        blocks = self.parameters.named().values()
        return torch.stack([block.flatten(1).isfinite().all(1) for block in blocks]).all(0)

    def over_groups(self, measure: Callable[[Tensor], Tensor]) -> Float[Tensor, " seed"]:
        """Return the mean of a metric of views over the groups of images that are compared."""
        groups = self.clusters if self.images.within_cluster else [torch.ones_like(self.clusters[0])]
        return torch.stack([of_finite(measure, self.features[:, group]) for group in groups]).mean(0)

    @cached_property
    def r_squared(self) -> Float[Tensor, "seed cluster"]:
        """R² of least squares from F of one view to the latents of a cluster's areas: global area, mean over local."""
        latents = self._many[0].latents[:, :: self.images.views].to(torch.float64)
        told = [
            of_finite(_r_squared, self.features[:, group, 0], latents[:, group, : int((sizes > 0).sum())])
            for group, sizes in zip(self.clusters, self.generator.layout.sizes, strict=True)
        ]
        return torch.stack([torch.stack([each[:, 0], each[:, 1:].mean(1)], -1) for each in told]).mean(0)


def _distance(seen: MeasuredModel) -> Tensor:
    return seen.of_last_maps(lambda maps: attention_distance(maps, seen.grid).value)


def _frequency(seen: MeasuredModel) -> Tensor:
    return of_finite(lambda tokens: highest_frequency(tokens, seen.grid), seen.tokens).mean(1)


_METRICS: dict[str, tuple[str, str, Callable[[MeasuredModel], Tensor]]] = {
    "attention_distance": ("d", "mean distance between query and key, in patches", _distance),
    "mutual_information": (
        "NMI",
        "normalised mutual information of query and key",
        lambda seen: seen.of_last_maps(lambda maps: mutual_information(maps).value),
    ),
    "attention_entropy": (
        "H",
        "mean entropy of a query's attention, in nats",
        lambda seen: seen.of_last_maps(lambda maps: attention_entropy(maps).value),
    ),
    "token_similarity": (
        "cos",
        "mean cosine of F_p and F_q, p ≠ q, of one image",
        lambda seen: of_finite(lambda tokens: homogeneity(tokens, over="token").value, seen.tokens).mean(1),
    ),
    "high_frequency": (
        "Δ log amp",
        "log amplitude of F_p at the highest frequency of the grid less that at 0",
        _frequency,
    ),
    "lidar": (
        "LiDAR",
        "effective number of directions that separate images, not masks",
        lambda seen: seen.over_groups(lambda views: lidar(views).value),
    ),
    "rank_me": (
        "RankMe",
        "effective rank of the representations of all views",
        lambda seen: seen.over_groups(lambda views: rank_me(views.flatten(1, 2)).value),
    ),
    "local_r_squared": (
        "R²_local",
        "R² of a linear map from F to the latent of a local area, mean over areas",
        lambda seen: seen.r_squared[:, 1],
    ),
    "global_r_squared": (
        "R²_global",
        "R² of a linear map from F to the latent of the global area",
        lambda seen: seen.r_squared[:, 0],
    ),
}
"""Symbol, meaning and formula of each metric."""
_OF_MAPS = ("attention_distance", "mutual_information", "attention_entropy")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric by its name, on its images: what an ``Observable`` computes; NaN for a model that is not finite."""

    name: str
    images: MetricImages = MetricImages()

    def __post_init__(self) -> None:
        require_choice("Metric.name", self.name, _METRICS)
        require_kind("Metric.images", self.images, MetricImages)

    def __call__(self, state: ModelState) -> Float[Tensor, " seed"]:
        """Return the metric of each seed's model, in float64."""
        # images are frozen, and equal ones hash alike: all metrics of a state share one MeasuredModel
        return self.of(state.shared(self.images))

    def of(self, seen: MeasuredModel) -> Float[Tensor, " seed"]:
        """Return the metric of models."""
        with torch.no_grad():
            return _METRICS[self.name][2](seen).where(seen.is_finite, nan)

    def check(self, layout: PatchLayout) -> None:
        """Raise ``ValueError`` where the metric does not exist on such a layout."""
        masked_count(layout.patches, self.images.mask_ratio)
        require_integer("MetricImages.objects", self.images.objects, at_least=_LEAST_IMAGES * layout.clusters)
        if self.name == "attention_distance" and layout.grid is None:
            remedy = "needs patches on a grid: grid=(rows, columns), or a square number of them"
            raise invalid_value("observables", self.name, remedy)
        if self.name == "high_frequency" and (
            layout.grid is None or len(diagonal_frequencies(layout.grid, convention=_FREQUENCIES)) < 2
        ):
            remedy = "needs patches on a grid whose axes have a frequency in common besides 0 and the highest"
            raise invalid_value("observables", self.name, remedy)


def metric_observables(
    names: Sequence[str] = tuple(_METRICS), images: MetricImages = MetricImages()
) -> tuple[Observable, ...]:
    """Return metrics of the field as observables, all measured on the same ``images``.

    ``attention_distance`` and ``high_frequency`` (convention cl-vs-mim) need a layout on a grid; ``lidar`` (convention
    exact) takes the masks of an image as its views, ``rank_me`` (exact) all views together; ``local_r_squared`` and
    ``global_r_squared`` are R² of least squares fitted on two thirds of a cluster's images and tested on the rest.
    Of maps the metrics are means over the heads of the last layer, each head's by itself. A frame costs objects · views
    forward passes, and ``maps`` images' maps, which are in memory at once.

    >>> [each.name for each in vd.metric_observables(["lidar", "rank_me"])]
    ['lidar', 'rank_me']
    """
    require_kind("images", images, MetricImages)
    require_sequence("names", names, f"names out of {', '.join(_METRICS)}")
    found = []
    for name in names:
        require_choice("names", name, _METRICS)
        symbol, meaning, _ = _METRICS[name]
        compute = Metric(name=name, images=images)
        found.append(
            Observable(
                name=name,
                compute=compute,
                symbol=symbol,
                meaning=meaning,
                may_be_missing=True,
                needs=ATTENTION_MAPS if name in _OF_MAPS else "",
            )
        )
    return tuple(found)


def of_finite(measure: Callable[..., Tensor], *arrays: Tensor) -> Tensor:
    """Return a metric of arrays (seed, ...), and NaN for a seed of which they are not finite."""
    if all(isfinite(array.sum()) for array in arrays):
        return measure(*arrays)
    sound = torch.stack([array.flatten(1).isfinite().all(1) for array in arrays]).all(0)
    # 0 in the place of what is not finite: decompositions raise on NaN, for all seeds at once
    taken = (array.where(along(sound, array), 0.0) for array in arrays)
    found = measure(*taken)
    return found.where(along(sound, found), nan)


def along(seeds: Bool[Tensor, " seed"], array: Tensor) -> Tensor:
    """Return numbers of seeds in a shape that goes with an array of these seeds."""
    return seeds.reshape(-1, *[1] * (array.ndim - 1))


def highest_frequency(
    tokens: Float[Tensor, "seed image patch feature"], grid: tuple[int, int]
) -> Float[Tensor, "seed image"]:
    """Return the relative log amplitude of images, each over the coordinates of its own areas: others are 0."""
    found = []
    for image in tokens.flatten(0, 1):
        own = (image != 0).any(0)
        own = own if bool(own.any()) else ~own
        found.append(fourier_log_amplitude(image[None, :, own], grid, convention=_FREQUENCIES).value[0, -1])
    return torch.stack(found).unflatten(0, tokens.shape[:2])


def _r_squared(
    features: Float[Tensor, "seed image feature"], latents: Float[Tensor, "seed image area"]
) -> Float[Tensor, "seed area"]:
    """Return R² of least squares on the last third of the images, fitted on the others, for each area."""
    # tested on images that were not fitted: otherwise R² would be 1 with as many coordinates as images
    fitted = 2 * features.shape[1] // 3
    return ridge_r_squared(
        features[:, :fitted], latents[:, :fitted], features[:, fitted:], latents[:, fitted:], penalty=0.0
    ).value
