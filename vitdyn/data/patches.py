"""The generator of patch data and the batches it makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from math import ceil, isqrt, sqrt
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitdyn._errors import invalid_value, require_boolean, require_integer, require_kind
from vitdyn._memory import require_fits
from vitdyn.data.latents import DISTRIBUTIONS, Distribution, Uniform, draw_of_streams
from vitdyn.data.layout import PatchLayout
from vitdyn.seeds import Streams, as_seeds, stream


def require_real_type(field: str, dtype: object) -> None:
    """Raise ``ValueError`` unless ``dtype`` is a floating-point type of torch: whole numbers would cut latents off."""
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise invalid_value(field, dtype, "must be a floating-point type: torch.float32 or torch.float64")


def _require_device(field: str, device: object) -> None:
    """Raise ``ValueError`` unless torch knows the device."""
    if isinstance(device, torch.device) and device.type == "cpu":  # as at every step of a run
        return
    try:
        torch.empty(0, device=device)  # type: ignore[call-overload]
    except (RuntimeError, TypeError, AssertionError) as error:
        words = 'must be a device that is here: "cpu", "cuda", "cuda:1"'
        raise invalid_value(field, device, words) from error


@dataclass(frozen=True)
class Basis:
    """Orthonormal features v_{k,j} and position codes e_p of one model, all in R^d.

    ``features``: (cluster, area, feature); ``positions``: (patch, feature). Rows of areas that a cluster
    does not have are 0.
    """

    features: Float[Tensor, "cluster area feature"]
    positions: Float[Tensor, "patch feature"]

    @property
    def dimension(self) -> int:
        """The dimension d of feature space."""
        return self.positions.shape[-1]


def orthonormal_basis(
    layout: PatchLayout,
    *,
    dimension: int | None = None,
    seed: int | None = None,
    dtype: torch.dtype = torch.float64,
) -> Basis:
    """Return features and position codes, all orthonormal, in R^d with d ≥ Σ_k N_k + P.

    Without a seed they are coordinate vectors (features first, then positions; d as small as it can be
    unless asked); with one, a random orthonormal set.

    >>> layout = vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5)
    >>> batch = vd.PatchGenerator(layout=layout).sample(4, seeds=[0])
    >>> batch.patches(vd.orthonormal_basis(layout)).shape  # (seed, sample, patch, feature)
    torch.Size([1, 4, 16, 19])
    """
    require_kind("layout", layout, PatchLayout)
    exists = torch.from_numpy(layout.sizes > 0)
    count = int(exists.sum())
    least = count + layout.patches
    size = least if dimension is None else dimension
    require_integer("dimension", size, at_least=1)
    require_real_type("dtype", dtype)
    if size < least:
        raise invalid_value(
            "dimension", size, f"{count} features and {layout.patches} positions need {least} or more"
        )
    rows = _orthonormal_rows(least, size, seed).to(dtype)
    features = torch.zeros(*layout.sizes.shape, size, dtype=dtype)
    features[exists] = rows[:count]
    return Basis(features, rows[count:])


def _orthonormal_rows(count: int, size: int, seed: int | None) -> Float[Tensor, "row feature"]:
    if seed is None:
        return torch.eye(count, size, dtype=torch.float64)
    # the signs of R's diagonal make the set uniform (Haar), which a bare QR is not
    normal = stream(seed, "basis").standard_normal((size, count))
    orthogonal, triangular = np.linalg.qr(normal)
    return torch.from_numpy((orthogonal * np.sign(np.diag(triangular))).T.copy())


@dataclass(frozen=True)
class PatchBatch:
    """Samples of the data model, kept as what determines them; patches and images are made on demand.

    ``cluster`` (seed, sample): k, uniform. ``latents`` (seed, sample, area): z_j of the sample's own
    cluster, 0 for areas that it does not have.
    """

    layout: PatchLayout
    seeds: tuple[int, ...]
    cluster: Int[Tensor, "seed sample"]
    latents: Float[Tensor, "seed sample area"]

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
    def contents_shape(self) -> tuple[int, int, int, int]:
        """The shape of ``contents()``: seed, sample, patch, feature."""
        layout = self.layout
        return len(self.seeds), self.count, layout.patches, layout.clusters * layout.areas

    def contents(self) -> Float[Tensor, "seed sample patch feature"]:
        """Return the patches X_p in coordinates of feature space, (k, j): ``PatchGenerator.feature_count`` of them.

        Memory: seeds · samples · P · F numbers.
        """
        return self.in_all_clusters((self.membership * self.latents[..., None]).mT)

    @cached_property
    def area(self) -> Int[Tensor, "seed sample patch"]:
        """The area index of each patch."""
        table = torch.tensor(self.layout.area_of_patch, device=self.cluster.device)
        return table[self.cluster]

    @property
    def patch_latent(self) -> Float[Tensor, "seed sample patch"]:
        """The latent z_{a(p)} of each patch's own area."""
        return self.latents.gather(-1, self.area)

    @cached_property
    def membership(self) -> Float[Tensor, "#seed #sample area patch"]:
        """1 where a patch lies in an area of its sample's cluster, else 0; one matrix for all samples where K = 1."""
        member = _membership_table(self.layout, self.latents)
        return member[None] if self.layout.clusters == 1 else member[self.cluster]

    @property
    def area_sizes(self) -> Int[Tensor, "seed sample area"]:
        """The number of patches of each area of the sample's own cluster, 0 for an area that it lacks."""
        return torch.tensor(self.layout.sizes, device=self.cluster.device)[self.cluster]

    def visible_count(self, visible: Tensor) -> Float[Tensor, "seed sample area"]:
        """Return how many patches of each area a view shows."""
        table = _membership_table(self.layout, self.latents)
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

    def _times_latents(self, rows: Float[Tensor, "cluster area feature"]) -> Tensor:
        """Return for each patch its area's row times its latent."""
        return self.patch_latent[..., None] * rows.to(self.latents)[self.cluster[..., None], self.area]

    def patches(self, basis: Basis) -> Float[Tensor, "seed sample patch feature"]:
        """Return the dense patches X_p = z_j v_{k,j} for p in area j of the sample's cluster k.

        Position codes are not added. Memory: seeds · samples · P · d numbers.
        """
        return self._times_latents(basis.features)

    def images(
        self, *, patch_size: int, channels: int = 3, seed: int = 0
    ) -> Float[Tensor, "seed sample channel height width"]:
        """Render each patch as a block of pixels: its feature through a random orthonormal dictionary.

        Each feature v_{k,j} becomes one unit vector of R^{channels · patch_size²}, orthogonal to the
        others; the image of a patch is z_j times that vector. Needs as many pixels in a patch as there
        are features in all clusters, and a layout on a grid (a square one is assumed where P allows).
        """
        require_integer("patch_size", patch_size, at_least=1)
        require_integer("channels", channels, at_least=1)
        patches = self.layout.patches
        rows, columns = self.layout.grid or (isqrt(patches), isqrt(patches))
        if rows * columns != patches:
            raise invalid_value(
                "layout.grid", None, f"{patches} patches fill no square: give the layout a grid"
            )
        exists = torch.from_numpy(self.layout.sizes > 0)
        pixels, count = channels * patch_size**2, int(exists.sum())
        if pixels < count:
            least = ceil(sqrt(count / channels))
            raise invalid_value(
                "patch_size", patch_size, f"{count} features need patches of {least} pixels a side or more"
            )
        dictionary = torch.zeros(*exists.shape, pixels, dtype=torch.float64)
        dictionary[exists] = _orthonormal_rows(count, pixels, seed)
        blocks = self._times_latents(dictionary)
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


@dataclass(frozen=True, kw_only=True)
class PatchGenerator:
    """The data distribution: a layout and a distribution of the latents.

    A sample draws a cluster k uniformly and latents z_j, independent over areas; patch p of area j is
    X_p = z_j v_{k,j}.

    >>> layout = vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5)
    >>> generator = vd.PatchGenerator(layout=layout, latents=vd.Uniform(low=1.0, high=1.5))
    >>> generator.sample(4, seeds=range(2)).latents.shape  # (seed, sample, area)
    torch.Size([2, 4, 3])
    """

    layout: PatchLayout
    latents: Distribution = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        require_kind("layout", self.layout, PatchLayout)
        if isinstance(self.latents, type) or not isinstance(self.latents, Distribution):
            known = ", ".join(DISTRIBUTIONS)
            raise invalid_value(
                "latents", self.latents, f"must be a distribution: one of {known}, or Custom(...)"
            )

    @property
    def feature_count(self) -> int:
        """F, the dimension of feature space: K · N orthonormal features."""
        return self.layout.clusters * self.layout.areas

    @cached_property
    def _absent(self) -> Bool[np.ndarray, "cluster area"] | None:
        """Which areas clusters do not have; None where each has all."""
        absent = self.layout.sizes == 0
        return absent if absent.any() else None

    def sample(
        self,
        count: int,
        seeds: Sequence[int],
        *,
        step: int = 0,
        purpose: str = "",
        by_cluster: bool = False,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> PatchBatch:
        """Draw ``count`` samples for each seed.

        What seed s draws at a step depends on (s, purpose, step) alone, not on the other seeds.
        ``purpose`` names a further family of streams: "" for training, "evaluation " for evaluation.
        With ``by_cluster`` the samples of a seed come in the order of their clusters: as latents know nothing of
        clusters, the clusters are sorted before the two meet, and the distribution of the unordered batch is the same.
        """
        require_integer("count", count, at_least=1)
        require_boolean("by_cluster", by_cluster)
        require_real_type("dtype", dtype)
        _require_device("device", device)
        own, clusters = as_seeds(seeds), self.layout.clusters
        require_fits("count", count, len(own) * count * (8 + 12 * self.layout.areas), "take fewer samples")
        cluster = np.zeros((len(own), count), dtype=np.int64)
        if clusters > 1:
            from vitdyn.data.stream_words import fill_whole_numbers

            fill_whole_numbers(Streams(own, f"{purpose}clusters", step).keys, step, clusters, cluster)
            if by_cluster:
                cluster.sort(axis=1)
        streams = Streams(own, f"{purpose}latents", step)
        latents = draw_of_streams(self.latents, streams, (count, self.layout.areas))
        if self._absent is not None:
            np.copyto(latents, 0.0, where=self._absent[cluster])
        return PatchBatch(
            self.layout,
            own,
            torch.from_numpy(cluster).to(device),
            torch.from_numpy(latents).to(device=device, dtype=dtype),
        )
