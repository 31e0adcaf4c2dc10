"""A batch of patch data: what determines its samples, and what is made of them on demand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from math import ceil, isqrt, sqrt
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitdyn._errors import invalid_value, require_integer
from vitdyn.data.basis import Basis, orthonormal_rows
from vitdyn.data.features import Features
from vitdyn.data.layout import PatchLayout

_BEYOND_LAYER = ("noise", "features", "area_feature", "layout_position")
"""Tensors of a batch, and more, of which kernels of the theory's layer know nothing."""


@dataclass(frozen=True)
class PatchBatch:
    """Samples of the data model, kept as what determines them; patches and images are made on demand.

    ``cluster`` (seed, sample): k. ``latents`` (seed, sample, area): z_j of the sample's own cluster, 0 for areas that
    it does not have. What data beyond the theory's have besides is None in these: ``features``, where they are not
    the K · N orthonormal ones; ``area_feature`` (seed, sample, area), by its number the feature that an area shows,
    where it is not (k, j); ``layout_position`` (seed, sample, patch), the position of the layout whose area a patch
    has, where it is not its own; ``noise`` (seed, sample, patch, feature), added to the patches.
    """

    layout: PatchLayout
    seeds: tuple[int, ...]
    cluster: Int[Tensor, "seed sample"]
    latents: Float[Tensor, "seed sample area"]
    features: Features | None = None
    area_feature: Int[Tensor, "seed sample area"] | None = None
    layout_position: Int[Tensor, "seed sample patch"] | None = None
    noise: Float[Tensor, "seed sample patch feature"] | None = None

    @property
    def count(self) -> int:
        """Samples per seed."""
        return self.cluster.shape[1]

    def map(
        self, function: Callable[..., Tensor], *others: PatchBatch, seeds: tuple[int, ...] | None = None
    ) -> PatchBatch:
        """Return the batch of what ``function`` makes of each tensor, given with it the same one of each of ``others``.

        ``seeds`` are those of the result where they are not the batch's own. Every tensor leads with seed and sample.
        """
        made: dict[str, Any] = {
            each.name: function(part, *(getattr(other, each.name) for other in others))
            for each in fields(self)
            if isinstance(part := getattr(self, each.name), Tensor)
        }
        return replace(self, **made, seeds=self.seeds if seeds is None else seeds)

    def part(self, samples: slice) -> PatchBatch:
        """Return the batch of some of the samples."""
        return self.map(lambda tensor: tensor[:, samples])

    @property
    def beyond_layer(self) -> str | None:
        """The first part of the batch of which kernels of the theory's layer know nothing, None without one."""
        return next((name for name in _BEYOND_LAYER if getattr(self, name) is not None), None)

    @property
    def contents_shape(self) -> tuple[int, int, int, int]:
        """The shape of ``contents()``: seed, sample, patch, feature."""
        layout = self.layout
        count = layout.clusters * layout.areas if self.features is None else self.features.count
        return len(self.seeds), self.count, layout.patches, count

    def contents(self) -> Float[Tensor, "seed sample patch feature"]:
        """Return the patches X_p in F orthonormal coordinates of feature space, noise included.

        These are the features (k, j) themselves, in this order, unless the batch has ``features`` of its own. F is
        ``PatchGenerator.feature_count``. Memory: seeds · samples · P · F numbers.
        """
        like, features = self.latents, self.features or Features(self.contents_shape[3])
        patches = self._times_latents(_vectors(features, like.dtype, like.device))
        return patches if self.noise is None else patches + self.noise

    @cached_property
    def area(self) -> Int[Tensor, "seed sample patch"]:
        """The area index of each patch."""
        table = torch.tensor(self.layout.area_of_patch, device=self.cluster.device)[self.cluster]
        return table if self.layout_position is None else table.gather(2, self.layout_position)

    def in_layout_order(
        self, values: Float[Tensor, "seed sample *rest patch"]
    ) -> Float[Tensor, "seed sample *rest position"]:
        """Return values of patches or queries in the order of the layout's positions, from which areas may move."""
        if self.layout_position is None:
            return values
        order = self.layout_position.argsort(2).reshape(*values.shape[:2], *[1] * (values.ndim - 3), -1)
        return values.gather(-1, order.expand(values.shape))

    @property
    def patch_latent(self) -> Float[Tensor, "seed sample patch"]:
        """The latent z_{a(p)} of each patch's own area."""
        return self.latents.gather(-1, self.area)

    @cached_property
    def membership(self) -> Float[Tensor, "#seed #sample area patch"]:
        """1 where a patch lies in an area of its sample's cluster, else 0; one matrix for all samples where K = 1."""
        member = _membership_table(self.layout, self.latents)
        if self.layout_position is not None:
            member = member[self.cluster]
            return member.gather(3, self.layout_position[:, :, None].expand_as(member))
        return member[None] if self.layout.clusters == 1 else member[self.cluster]

    @property
    def area_sizes(self) -> Int[Tensor, "seed sample area"]:
        """The number of patches of each area of the sample's own cluster, 0 for an area that it lacks."""
        return torch.tensor(self.layout.sizes, device=self.cluster.device)[self.cluster]

    def visible_count(self, visible: Tensor) -> Float[Tensor, "seed sample area"]:
        """Return how many patches of each area a view shows."""
        table, visible = _membership_table(self.layout, self.latents), self.in_layout_order(visible)
        # whole numbers are exact in any order: one product for all clusters, of which each sample takes its own
        counts = (visible.to(self.latents) @ table.flatten(0, 1).T).unflatten(2, table.shape[:2])
        return counts.gather(2, self.cluster[..., None, None].expand(-1, -1, 1, table.shape[1])).squeeze(2)

    def own_area_visible(self, visible: Tensor) -> Bool[Tensor, "seed sample patch"]:
        """Return for each patch whether a view shows any patch of its area."""
        return self.visible_count(visible).gather(2, self.area) > 0

    def in_all_clusters(
        self, values: Float[Tensor, "seed sample *rest area"]
    ) -> Float[Tensor, "seed sample *rest feature"]:
        """Place coordinates along the features of each sample's own cluster among those (k, j) of all, 0 elsewhere."""
        if self.layout.clusters == 1:
            return values
        place = torch.nn.functional.one_hot(self.cluster, self.layout.clusters).to(values)
        place = place.reshape(*place.shape[:2], *[1] * (values.ndim - 3), -1)
        return (place[..., :, None] * values[..., None, :]).flatten(-2)

    def similarity(
        self, one: Float[Tensor, "seed sample area"], other: Float[Tensor, "seed sample area"]
    ) -> Float[Tensor, "seed sample sample"]:
        """Return ⟨F_b, F'_c⟩ of vectors in the features of each sample's own cluster, orthogonal to those of others."""
        products = torch.bmm(one, other.transpose(1, 2))
        return products * self.same_cluster if self.layout.clusters > 1 else products

    @property
    def same_cluster(self) -> Bool[Tensor, "seed sample sample"]:
        """Which samples are of the same cluster."""
        return self.cluster[:, :, None] == self.cluster[:, None]

    @property
    def patch_feature(self) -> Int[Tensor, "seed sample patch"]:
        """The number of the feature that each patch shows."""
        if self.area_feature is not None:
            return self.area_feature.gather(2, self.area)
        return self.cluster[..., None] * self.layout.areas + self.area

    def _times_latents(self, rows: Float[Tensor, "feature coordinate"]) -> Tensor:
        """Return for each patch its feature's row times its latent."""
        return self.patch_latent[..., None] * rows.to(self.latents)[self.patch_feature]

    @property
    def shown_features(self) -> Bool[Tensor, " feature"]:
        """Which features some cluster shows: not (k, j) of an area that cluster k lacks."""
        if self.features is not None:
            return torch.ones(self.features.count, dtype=torch.bool, device=self.cluster.device)
        return torch.from_numpy(self.layout.sizes > 0).flatten().to(self.cluster.device)

    def along_features(
        self, values: Float[Tensor, "seed sample *rest coordinate"]
    ) -> Float[Tensor, "seed sample *rest feature"]:
        """Return inner products with all features, of vectors in the coordinates of ``contents``."""
        if self.features is None:
            return values
        return values @ _vectors(self.features, values.dtype, values.device).mT

    def patches(self, basis: Basis) -> Float[Tensor, "seed sample patch feature"]:
        """Return the dense patches X_p = z_j v_{k,j} for p in area j of the sample's cluster k.

        Position codes are not added. Memory: seeds · samples · P · d numbers. Raises ``ValueError`` for data with more
        than that, whose coordinates are ``contents``.
        """
        if self.beyond_layer not in (None, "layout_position"):
            remedy = "is more than features of a basis: take the coordinates contents()"
            raise invalid_value("batch", self.beyond_layer, remedy)
        return self._times_latents(basis.features.flatten(0, 1))

    def images(
        self, *, patch_size: int, channels: int = 3, seed: int = 0
    ) -> Float[Tensor, "seed sample channel height width"]:
        """Render each patch as a block of pixels: its contents through a random orthonormal dictionary.

        Each coordinate of feature space becomes one unit vector of R^{channels · patch_size²}, orthogonal to the
        others: without more in the data, the image of a patch is z_j times that of its feature. Needs as many pixels in
        a patch as there are features in all clusters, and a layout on a grid (a square one is assumed where P allows).
        """
        require_integer("patch_size", patch_size, at_least=1)
        require_integer("channels", channels, at_least=1)
        patches = self.layout.patches
        rows, columns = self.layout.grid or (isqrt(patches), isqrt(patches))
        if rows * columns != patches:
            raise invalid_value(
                "layout.grid", None, f"{patches} patches fill no square: give the layout a grid"
            )
        # noise has all coordinates
        exists = (
            self.shown_features.cpu() if self.noise is None else torch.ones(self.contents_shape[3]).bool()
        )
        pixels, count = channels * patch_size**2, int(exists.sum())
        if pixels < count:
            least = ceil(sqrt(count / channels))
            raise invalid_value(
                "patch_size", patch_size, f"{count} features need patches of {least} pixels a side or more"
            )
        dictionary = torch.zeros(len(exists), pixels, dtype=torch.float64)
        dictionary[exists] = orthonormal_rows(count, pixels, seed)
        if self.beyond_layer in (None, "layout_position"):
            blocks = self._times_latents(dictionary)
        else:
            blocks = self.contents() @ dictionary.to(self.latents)
        split = blocks.unflatten(-1, (channels, patch_size, patch_size)).unflatten(2, (rows, columns))
        return split.permute(0, 1, 4, 2, 5, 3, 6).flatten(3, 4).flatten(-2, -1)


def _membership_table(layout: PatchLayout, like: Tensor) -> Float[Tensor, "cluster area patch"]:
    member = _kept_membership(layout, like.dtype, like.device)
    if member._version:  # somebody changed in place what all batches of the layout share
        _kept_membership.cache_clear()
        member = _kept_membership(layout, like.dtype, like.device)
    return member


@lru_cache(maxsize=16)
def _kept_membership(layout: PatchLayout, dtype: torch.dtype, device: torch.device) -> Tensor:
    table = layout.area_of_patch[:, None] == np.arange(layout.areas)[:, None]
    return torch.from_numpy(table).to(dtype=dtype, device=device)


@lru_cache(maxsize=16)
def _vectors(features: Features, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.from_numpy(features.vectors).to(dtype=dtype, device=device)
