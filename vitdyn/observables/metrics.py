"""The metrics of the field along a run of the theory's model: of its attention maps and its representations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, nan

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitdyn._errors import (
    require_boolean,
    require_choice,
    require_integer,
    require_real,
    require_sequence,
    wrong,
)
from vitdyn.attention import Correlations, attend
from vitdyn.data import PatchBatch, PatchGenerator, PatchLayout, draw_visible, masked_count
from vitdyn.data.latents import draw_of_streams
from vitdyn.metrics import (
    attention_distance,
    attention_entropy,
    diagonal_frequencies,
    fourier_log_amplitude,
    homogeneity,
    lidar,
    mutual_information,
    rank_me,
    ridge_determination,
)
from vitdyn.observables.catalogue import METRICS
from vitdyn.observables.representation import image_representation, patch_representation
from vitdyn.seeds import Streams

Measure = Callable[[Tensor], Tensor]
_OF_IMAGES = ("lidar", "rank_me", "local_determination", "global_determination")
_AT_A_TIME = 2**19  # entries (seed, image, query, key) of maps held at once: 2 MiB in float32
_FREQUENCIES = "cl-vs-mim"
_LEAST_IMAGES = 6
"""Images of a cluster: four to fit and two to test."""


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Which metrics a run records at every frame, and on what: images and masks that no training step sees.

    Metrics of attention maps (``attention_distance``, which needs a layout on a grid, ``mutual_information``,
    ``attention_entropy``) and of patches F_p (``token_similarity``, and ``high_frequency`` in the convention cl-vs-mim,
    which needs a grid whose axes have a frequency in common) are means over ``maps`` masked images. Those of images,
    F = mean F_p, are read off ``objects`` images, as many of each cluster, with ``views`` masks each: ``lidar``
    (convention exact) takes the masks of an image as its views, ``rank_me`` (exact) all views together;
    ``local_determination`` and ``global_determination`` are R² of least squares from F of one view to the latents of a
    cluster's areas, fitted on two thirds of the cluster's images and tested on the rest. All masks hide ``mask_ratio``
    of the patches.

    Images of two clusters differ in a direction that no mask moves. ``within_cluster`` therefore takes the first two
    among the images of each cluster, and their mean over clusters; without it they see all images together.

    The same images and masks serve every frame. A frame costs objects · views forward passes, and ``maps`` maps. A seed
    whose maps or representations are not finite, as in a run that is about to diverge, has NaN and ends nothing.

    >>> layout = vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5, grid=(4, 4))
    >>> generator, record = vd.PatchGenerator(layout=layout), vd.Metrics(names=("attention_distance",))
    >>> training = vd.Training(generator=generator, objective=vd.Contrastive(), steps=3, metrics=record)
    >>> vd.simulate(training)["attention_distance"].dims
    ('frame', 'seed')
    """

    names: tuple[str, ...]
    mask_ratio: float = 0.5
    maps: int = 4
    objects: int = 256
    views: int = 16
    within_cluster: bool = True

    def __post_init__(self) -> None:
        require_sequence("Metrics.names", self.names, f"names out of {', '.join(METRICS)}")
        if not len(self.names):
            raise wrong("Metrics.names", self.names, f"must name at least one of {', '.join(METRICS)}")
        for name in self.names:
            require_choice("Metrics.names", name, METRICS)
        require_real("Metrics.mask_ratio", self.mask_ratio, low=0, high=1, open_low=True, open_high=True)
        require_integer("Metrics.maps", self.maps, at_least=1)
        require_integer("Metrics.objects", self.objects, at_least=_LEAST_IMAGES)
        require_integer("Metrics.views", self.views, at_least=2)
        require_boolean("Metrics.within_cluster", self.within_cluster)
        object.__setattr__(self, "names", tuple(self.names))

    def check(self, layout: PatchLayout) -> None:
        """Raise ``ValueError`` where a metric does not exist on such a layout."""
        masked_count(layout.patches, self.mask_ratio)
        require_integer("Metrics.objects", self.objects, at_least=_LEAST_IMAGES * layout.clusters)
        if "attention_distance" in self.names and layout.grid is None:
            raise wrong(
                "Metrics.names",
                "attention_distance",
                "needs patches on a grid: grid=(rows, columns), or a square number of them",
            )
        if "high_frequency" in self.names and (
            layout.grid is None or len(diagonal_frequencies(layout.grid, convention=_FREQUENCIES)) < 2
        ):
            remedy = "needs patches on a grid whose axes have a frequency in common besides 0 and the highest"
            raise wrong("Metrics.names", "high_frequency", remedy)

    def measure(
        self, correlations: Correlations, generator: PatchGenerator, seeds: tuple[int, ...]
    ) -> dict[str, Float[Tensor, " seed"]]:
        """Return the named metrics of each seed's model, in float64; NaN for a model that is not finite."""
        with torch.no_grad():
            found = {
                **self._of_maps(correlations, generator, seeds),
                **self._of_images(correlations, generator, seeds),
            }
        blocks = correlations.named().values()
        sound = torch.stack([block.flatten(1).isfinite().all(1) for block in blocks]).all(0)
        return {name: found[name].where(sound, nan) for name in self.names}

    def _of_maps(
        self, correlations: Correlations, generator: PatchGenerator, seeds: tuple[int, ...]
    ) -> dict[str, Tensor]:
        """Return the metrics of maps and of patches, a few images at a time."""
        grid = generator.layout.grid or (1, 1)
        of_maps: dict[str, Measure] = {
            "attention_distance": lambda maps: attention_distance(maps, grid).value,
            "mutual_information": lambda maps: mutual_information(maps).value,
            "attention_entropy": lambda maps: attention_entropy(maps).value,
        }
        of_tokens: dict[str, Measure] = {
            "token_similarity": lambda tokens: homogeneity(tokens, over="token").value,
            "high_frequency": lambda tokens: _highest_frequency(tokens, grid),
        }
        kinds = [
            (read, asked)
            for read, measures in ((attend, of_maps), (patch_representation, of_tokens))
            if (asked := {name: measure for name, measure in measures.items() if name in self.names})
        ]
        found: dict[str, list[Tensor]] = {name: [] for _, asked in kinds for name in asked}
        if not found:
            return {}
        batch, visible = self._draw(correlations, generator, seeds, self.maps, views=1)
        size = max(1, _AT_A_TIME // (len(seeds) * generator.layout.patches**2))
        for start in range(0, batch.count, size):
            few = slice(start, start + size)
            for read, asked in kinds:
                seen = read(correlations, batch.part(few), visible[:, few])
                for name, measure in asked.items():
                    found[name].append(_of_finite(measure, seen))
        return {name: torch.cat(values, 1).mean(1) for name, values in found.items()}

    def _of_images(
        self, correlations: Correlations, generator: PatchGenerator, seeds: tuple[int, ...]
    ) -> dict[str, Tensor]:
        """Return the metrics of the representations of images."""
        asked = set(self.names) & set(_OF_IMAGES)
        if not asked:
            return {}
        batch, visible = self._draw(correlations, generator, seeds, self.objects, self.views)
        features = image_representation(correlations, batch, visible).to(torch.float64)
        features = features.unflatten(1, (self.objects, self.views))
        latents = batch.latents[:, :: self.views].to(torch.float64)
        drawn = batch.cluster[0, :: self.views]
        groups = [drawn == cluster for cluster in range(generator.layout.clusters)]
        compared = groups if self.within_cluster else [torch.ones_like(drawn, dtype=torch.bool)]
        found: dict[str, list[Tensor]] = {}
        if "lidar" in asked:
            found["lidar"] = [_of_finite(_lidar, features[:, group]) for group in compared]
        if "rank_me" in asked:
            found["rank_me"] = [_of_finite(_rank_me, features[:, group]) for group in compared]
        if asked & {"local_determination", "global_determination"}:
            told = [
                _of_finite(_determination, features[:, group, 0], latents[:, group, : int((sizes > 0).sum())])
                for group, sizes in zip(groups, generator.layout.sizes, strict=True)
            ]
            found["global_determination"] = [each[:, 0] for each in told]
            found["local_determination"] = [each[:, 1:].mean(1) for each in told]
        return {name: torch.stack(values).mean(0) for name, values in found.items()}

    def _draw(
        self,
        correlations: Correlations,
        generator: PatchGenerator,
        seeds: tuple[int, ...],
        images: int,
        views: int,
    ) -> tuple[PatchBatch, Bool[Tensor, "seed view patch"]]:
        """Draw images for each seed, as many of each cluster, repeat each ``views`` times, and draw all masks."""
        layout, model = generator.layout, correlations.position_position
        cluster = torch.arange(images) * layout.clusters // images
        exists = torch.from_numpy(layout.sizes > 0)[cluster]
        shape, masked = (images, layout.areas), masked_count(layout.patches, self.mask_ratio)
        latents = draw_of_streams(generator.latents, Streams(seeds, "metrics latents"), shape)
        shown = draw_visible(Streams(seeds, "metrics masks"), images * views, layout.patches, masked)
        batch = PatchBatch(
            layout,
            seeds,
            cluster.expand(len(seeds), -1).repeat_interleave(views, 1).to(model.device),
            (torch.from_numpy(latents) * exists).repeat_interleave(views, 1).to(model),
        )
        return batch, torch.from_numpy(shown).to(model.device)


def _of_finite(measure: Callable[..., Tensor], *arrays: Tensor) -> Tensor:
    """Return a metric of arrays (seed, ...), and NaN for a seed of which they are not finite."""
    if all(isfinite(array.sum()) for array in arrays):
        return measure(*arrays)
    sound = torch.stack([array.flatten(1).isfinite().all(1) for array in arrays]).all(0)
    taken = (array.where(_along(sound, array), 0.0) for array in arrays)
    found = measure(*taken)
    return found.where(_along(sound, found), nan)


def _along(seeds: Bool[Tensor, " seed"], array: Tensor) -> Tensor:
    return seeds.reshape(-1, *[1] * (array.ndim - 1))


def _lidar(features: Float[Tensor, "seed image view feature"]) -> Float[Tensor, " seed"]:
    return lidar(features).value


def _rank_me(features: Float[Tensor, "seed image view feature"]) -> Float[Tensor, " seed"]:
    return rank_me(features.flatten(1, 2)).value


def _highest_frequency(
    tokens: Float[Tensor, "seed image patch feature"], grid: tuple[int, int]
) -> Float[Tensor, "seed image"]:
    """Return the relative log amplitude of images, each over the coordinates of its own areas: others are 0."""
    found = []
    for image in tokens.flatten(0, 1):
        own = (image != 0).any(0)
        own = own if bool(own.any()) else ~own
        found.append(fourier_log_amplitude(image[None, :, own], grid, convention=_FREQUENCIES).value[0, -1])
    return torch.stack(found).unflatten(0, tokens.shape[:2])


def _determination(
    features: Float[Tensor, "seed image feature"], latents: Float[Tensor, "seed image area"]
) -> Float[Tensor, "seed area"]:
    """Return R² of least squares on the last third of the images, fitted on the others, for each area."""
    fitted = 2 * features.shape[1] // 3
    return ridge_determination(
        features[:, :fitted], latents[:, :fitted], features[:, fitted:], latents[:, fitted:], penalty=0.0
    ).value
