"""The generator of patch data: the theory's distribution, and what can be added to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from vitdyn._errors import invalid_value, require_boolean, require_integer, require_kind, require_real
from vitdyn._memory import require_fits
from vitdyn._specs import ADDED_LATER
from vitdyn.data.basis import require_real_type
from vitdyn.data.draws import (
    draw_clusters,
    draw_noise,
    draw_positions,
    draw_signs,
    draw_variants,
    share_latents,
)
from vitdyn.data.features import Features, Gram, as_coherence, checked_probabilities, checked_table
from vitdyn.data.latents import DISTRIBUTIONS, Distribution, Uniform, draw_of_streams
from vitdyn.data.layout import PatchLayout
from vitdyn.data.patches import PatchBatch
from vitdyn.seeds import Streams, as_seeds

BEYOND_LAYER = ("noise", "coherence", "variants", "feature_table", "largest_shift")
"""Fields of a generator whose data the theory's layer cannot be evaluated on by its kernels."""


def _require_device(field: str, device: object) -> None:
    """Raise ``ValueError`` unless torch knows the device."""
    if isinstance(device, torch.device) and device.type == "cpu":  # as at every step of a run
        return
    try:
        torch.empty(0, device=device)  # type: ignore[call-overload]
    except (RuntimeError, TypeError, AssertionError) as error:
        words = 'must be a device that is here: "cpu", "cuda", "cuda:1"'
        raise invalid_value(field, device, words) from error


@dataclass(frozen=True, kw_only=True)
class PatchGenerator:
    """The data distribution: a layout and a distribution of the latents, and what makes data unlike the theory's.

    A sample draws a cluster k uniformly and latents z_j, independent over areas; patch p of area j is
    X_p = z_j v_{k,j} with F = K · N orthonormal features. Each of the other fields breaks one of these words; at its
    default it changes no bit. What of the theory each leaves standing: notes, ``data.md``.

    ``cluster_probabilities``: π_k, one for each cluster, in place of 1/K.
    ``latent_correlation``: ρ of the latents of any two areas of a sample. With probability √ρ an area shows, in place
    of its own latent, one that the sample draws for all: each latent keeps its distribution, whatever that is,
    and E f(z_i) g(z_j) = (1 − ρ) E f E g + ρ E fg for any f and g, exactly.
    ``negative``: the probability that a latent is −z_j, drawn by area.
    ``noise``: s of X_p = z_j v_{k,j} + s ε_p, ε_p standard normal in each of the F coordinates of feature space, drawn
    for every patch of every sample, the same in all its views; the target X_p holds it too.
    ``coherence``: c = ⟨v_f, v_g⟩ of any two features, or the Gram matrix of all F as rows (``Features``).
    ``variants``: r features of each area, of which a sample shows one, drawn uniformly by area; F = K · N · r.
    ``feature_table``: the feature, by number, of area j of cluster k in row k, where clusters or areas share some
    (``shared_features``); F is as many as it names, times r.
    ``largest_shift``: the whole partition moves from sample to sample, by 0 to this many cells along each axis,
    uniformly: rows and columns of a grid, else the circle of positions; what leaves on one side enters on the other.

    >>> layout = vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5)
    >>> generator = vd.PatchGenerator(layout=layout, latents=vd.Uniform(low=1.0, high=1.5))
    >>> generator.sample(4, seeds=range(2)).latents.shape  # (seed, sample, area)
    torch.Size([2, 4, 3])
    >>> vd.PatchGenerator(layout=layout, noise=0.1, variants=2).sample(4, seeds=[0]).contents().shape
    torch.Size([1, 4, 16, 6])
    """

    layout: PatchLayout
    latents: Distribution = field(default_factory=Uniform)
    cluster_probabilities: tuple[float, ...] | None = field(default=None, metadata=ADDED_LATER)
    latent_correlation: float = field(default=0.0, metadata=ADDED_LATER)
    negative: float = field(default=0.0, metadata=ADDED_LATER)
    noise: float = field(default=0.0, metadata=ADDED_LATER)
    coherence: float | Gram = field(default=0.0, metadata=ADDED_LATER)
    variants: int = field(default=1, metadata=ADDED_LATER)
    feature_table: tuple[tuple[int, ...], ...] | None = field(default=None, metadata=ADDED_LATER)
    largest_shift: int = field(default=0, metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        require_kind("layout", self.layout, PatchLayout)
        if isinstance(self.latents, type) or not isinstance(self.latents, Distribution):
            known = ", ".join(DISTRIBUTIONS)
            raise invalid_value(
                "latents", self.latents, f"must be a distribution: one of {known}, or Custom(...)"
            )
        self._check_departures()

    def _check_departures(self) -> None:
        # plain tuples, whatever was given: as JSON gives them back
        plain = {
            "cluster_probabilities": checked_probabilities(self.cluster_probabilities, self.layout),
            "coherence": as_coherence(self.coherence),
            "feature_table": checked_table(self.feature_table, self.layout),
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)
        require_real("latent_correlation", self.latent_correlation, low=0.0, high=1.0)
        require_real("negative", self.negative, low=0.0, high=1.0)
        require_real("noise", self.noise, low=0.0, high=1e6)
        require_integer("variants", self.variants, at_least=1)
        longest = max(self.layout.grid or (self.layout.patches,)) - 1
        require_integer("largest_shift", self.largest_shift, at_least=0, at_most=longest)
        _ = self.features  # validates the coherence

    @property
    def departures(self) -> tuple[str, ...]:
        """The fields by which the data differ from the theory's."""
        return tuple(name for name, default in _ADDED if getattr(self, name) != default)

    @property
    def draws_as_written(self) -> bool:
        """Whether its draws are those written here: no subclass and nobody else has put others in their place."""
        names = ("sample", "of_clusters")
        return all(
            getattr(getattr(self, name), "__func__", None) is vars(PatchGenerator)[name] for name in names
        )

    @cached_property
    def beyond_layer(self) -> str | None:
        """The first field whose data the kernels of the theory's layer cannot evaluate exactly, None without one."""
        return next((name for name in self.departures if name in BEYOND_LAYER), None)

    @cached_property
    def features(self) -> Features:
        """The F features of all clusters and areas, in the order of their indices: variants of one area in a row."""
        return Features(self.variants * (int(self._table.max()) + 1), self.coherence)

    @property
    def feature_count(self) -> int:
        """F, the dimension of feature space."""
        return self.features.count

    @property
    def bytes_per_sample(self) -> int:
        """About how many bytes a sample takes while it is drawn: in float64, and in a run's own precision."""
        patches, areas = self.layout.patches, self.layout.areas
        indices = 1 + areas * self._shows_others + patches * bool(self.largest_shift)
        numbers = areas + patches * self.feature_count * bool(self.noise)
        return 8 * indices + 12 * numbers

    @cached_property
    def _table(self) -> Int[np.ndarray, "cluster area"]:
        """The feature of each area, variants apart."""
        if self.feature_table is not None:
            return np.array(self.feature_table)
        return np.arange(self.layout.sizes.size).reshape(self.layout.sizes.shape)

    @property
    def _shows_others(self) -> bool:
        """Whether an area of a sample may show another feature than (k, j)."""
        return self.variants > 1 or self.feature_table is not None

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
        With ``by_cluster`` the samples of a seed come in the order of their clusters: as all else knows nothing of
        clusters, the clusters are sorted before the two meet, and the distribution of the unordered batch is the same.
        """
        require_integer("count", count, at_least=1)
        require_boolean("by_cluster", by_cluster)
        require_real_type("dtype", dtype)
        _require_device("device", device)
        own = as_seeds(seeds)
        require_fits("count", count, len(own) * count * self.bytes_per_sample, "take fewer samples")
        streams = Streams(own, f"{purpose}clusters", step)
        cluster = draw_clusters(self.cluster_probabilities, self.layout.clusters, streams, count)
        if by_cluster:
            cluster.sort(axis=1)
        kind: Any = {"dtype": dtype, "device": device}
        return self.of_clusters(cluster, own, step=step, purpose=purpose, **kind)

    def of_clusters(
        self,
        cluster: Int[np.ndarray, "seed sample"],
        seeds: Sequence[int],
        *,
        step: int = 0,
        purpose: str = "",
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> PatchBatch:
        """Draw all else of samples whose clusters are given, as ``sample`` does."""
        own, layout, count = as_seeds(seeds), self.layout, cluster.shape[1]

        def streams(what: str) -> Streams:
            return Streams(own, f"{purpose}{what}", step)

        added: dict[str, Any] = {}
        like = torch.empty(0, dtype=dtype, device=device)
        if self.beyond_layer is not None:
            if self.coherence or self._shows_others:
                added["features"] = self.features
            if self._shows_others:
                variant = draw_variants(self.variants, streams("variants"), (count, layout.areas))
                added["area_feature"] = self._table[cluster] * self.variants + variant
            if self.largest_shift:
                added["layout_position"] = draw_positions(
                    layout, self.largest_shift, streams("shifts"), count
                )
            if self.noise:
                shape = count, layout.patches, self.feature_count
                added["noise"] = draw_noise(self.noise, streams("noise"), shape, like)
        for name, part in added.items():
            if isinstance(part, np.ndarray):
                added[name] = torch.from_numpy(part).to(device)
        latents = torch.from_numpy(self._latents(cluster, streams)).to(like)
        return PatchBatch(layout, own, torch.from_numpy(cluster).to(device), latents, **added)

    def _latents(
        self, cluster: Int[np.ndarray, "seed sample"], streams: Callable[[str], Streams]
    ) -> Float[np.ndarray, "seed sample area"]:
        shape = cluster.shape[1], self.layout.areas
        latents = draw_of_streams(self.latents, streams("latents"), shape)
        if self.latent_correlation:
            given = streams("common latents"), streams("latent links")
            latents = share_latents(latents, self.latent_correlation, self.latents, *given)
        if self.negative:
            latents = latents * draw_signs(self.negative, streams("signs"), shape)
        if self._absent is not None:
            np.copyto(latents, 0.0, where=self._absent[cluster])
        return latents


_ADDED = tuple((each.name, each.default) for each in fields(PatchGenerator) if each.metadata == ADDED_LATER)
"""What is added to the theory's data, with its value where it is not."""
