"""The generator of patch data: the theory's distribution, and what can be added to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitdyn._errors import invalid_value, require_boolean, require_integer, require_kind, require_real
from vitdyn._memory import require_fits
from vitdyn._specs import ADDED_LATER
from vitdyn.data.basis import require_real_type
from vitdyn.data.features import Features, Gram, as_coherence
from vitdyn.data.latents import DISTRIBUTIONS, Distribution, Uniform, draw_of_streams
from vitdyn.data.layout import PatchLayout
from vitdyn.data.patches import PatchBatch
from vitdyn.seeds import Streams, as_seeds

BEYOND_LAYER = ("noise", "coherence")
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

    ``noise`` is s of X_p = z_j v_{k,j} + s ε_p, ε_p standard normal in each of the F coordinates of feature space,
    drawn for every patch of every sample, the same in all its views; the target X_p holds it too.
    ``coherence`` is c = ⟨v_f, v_g⟩ of any two features, or the Gram matrix of all F as rows (``Features``), in the
    order (k, j).

    >>> layout = vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5)
    >>> generator = vd.PatchGenerator(layout=layout, latents=vd.Uniform(low=1.0, high=1.5))
    >>> generator.sample(4, seeds=range(2)).latents.shape  # (seed, sample, area)
    torch.Size([2, 4, 3])
    >>> vd.PatchGenerator(layout=layout, noise=0.1, coherence=0.3).departures
    ('noise', 'coherence')
    """

    layout: PatchLayout
    latents: Distribution = field(default_factory=Uniform)
    noise: float = field(default=0.0, metadata=ADDED_LATER)
    coherence: float | Gram = field(default=0.0, metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        require_kind("layout", self.layout, PatchLayout)
        if isinstance(self.latents, type) or not isinstance(self.latents, Distribution):
            known = ", ".join(DISTRIBUTIONS)
            raise invalid_value(
                "latents", self.latents, f"must be a distribution: one of {known}, or Custom(...)"
            )
        require_real("noise", self.noise, low=0.0, high=1e6)
        object.__setattr__(self, "coherence", as_coherence(self.coherence))
        _ = self.features  # validates its own fields

    @cached_property
    def departures(self) -> tuple[str, ...]:
        """The fields by which the data differ from the theory's."""
        added = [each for each in fields(PatchGenerator) if each.metadata == ADDED_LATER]
        return tuple(each.name for each in added if getattr(self, each.name) != each.default)

    @property
    def beyond_layer(self) -> str | None:
        """The first field whose data the kernels of the theory's layer cannot evaluate exactly, None without one."""
        return next((name for name in self.departures if name in BEYOND_LAYER), None)

    @cached_property
    def features(self) -> Features:
        """The F features of all clusters and areas, in the order of their indices."""
        return Features(self.layout.clusters * self.layout.areas, self.coherence)

    @property
    def feature_count(self) -> int:
        """F, the dimension of feature space."""
        return self.features.count

    @property
    def bytes_per_sample(self) -> int:
        """About how many bytes a sample takes while it is drawn: in float64, and in a run's own precision."""
        noise = self.layout.patches * self.feature_count if self.noise else 0
        return 8 + 12 * (self.layout.areas + noise)

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
        require_fits("count", count, len(own) * count * self.bytes_per_sample, "take fewer samples")
        cluster = np.zeros((len(own), count), dtype=np.int64)
        if clusters > 1:
            from vitdyn.data.stream_words import fill_whole_numbers

            fill_whole_numbers(Streams(own, f"{purpose}clusters", step).keys, step, clusters, cluster)
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
        own, count = as_seeds(seeds), cluster.shape[1]

        def streams(what: str) -> Streams:
            return Streams(own, f"{purpose}{what}", step)

        latents = draw_of_streams(self.latents, streams("latents"), (count, self.layout.areas))
        if self._absent is not None:
            np.copyto(latents, 0.0, where=self._absent[cluster])
        return PatchBatch(
            self.layout,
            own,
            torch.from_numpy(cluster).to(device),
            torch.from_numpy(latents).to(device=device, dtype=dtype),
            None if self.coherence == 0.0 else self.features,
            self._noise(streams("noise"), count, dtype, device) if self.noise else None,
        )

    def _noise(
        self, streams: Streams, count: int, dtype: torch.dtype, device: torch.device | str
    ) -> Float[Tensor, "seed sample patch feature"]:
        shape = count, self.layout.patches, self.feature_count
        # each seed's own in place: a second array of all would be the largest of a step
        noise = torch.empty(len(streams.seeds), *shape, dtype=dtype)
        for own, generator in zip(noise, streams.each(), strict=True):
            own.copy_(torch.from_numpy(generator.standard_normal(shape))).mul_(self.noise)
        return noise.to(device)
