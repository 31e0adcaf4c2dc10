"""Training batches drawn on the device: from the counter stream, as a function of (seed, step) alone.

The distribution is that of ``batches``; the draws are others, since these streams are not numpy's. Evaluation is
not drawn here: it takes the same samples on every device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitdyn._errors import invalid_value
from vitdyn.data import PatchBatch, PatchGenerator
from vitdyn.data.counter import stream_keys, uniforms
from vitdyn.data.device_latents import draw_latents, draw_on_cpu, has_quantile
from vitdyn.data.device_masks import visible_patches, visible_words
from vitdyn.dynamics.batches import Views
from vitdyn.objectives import Objective, hyperparameter


@dataclass(frozen=True)
class DeviceBatches:
    """Where the training batches of a group of seeds come from, drawn on ``device``.

    Samples are fresh at every step; the objective, which may be a stacked one, ``draws_views_jointly``. A step is a
    number, or a tensor of one number on the device.
    """

    generator: PatchGenerator
    objective: Objective
    seeds: tuple[int, ...]
    samples: int
    dtype: torch.dtype
    device: torch.device

    def __post_init__(self) -> None:
        if self.generator.departures:
            field, remedy = self.generator.departures[0], "is drawn on the host alone: take BatchSource"
            raise invalid_value(f"generator.{field}", getattr(self.generator, field), remedy)

    def training(self, step: int | Tensor) -> tuple[PatchBatch, Views]:
        """Return the batch of a step, samples in the order of their clusters, with its views as bytes."""
        return self.batch(step), self.views(step)

    def batch(self, step: int | Tensor, latents: Tensor | None = None) -> PatchBatch:
        """Return the samples of a step; latents that are given are not drawn (``host_latents``)."""
        layout = self.generator.layout
        drawn = self.latents(step) if latents is None else latents
        cluster = self._clusters(step)
        if (layout.sizes == 0).any():
            drawn = drawn * self._exists[cluster]
        return PatchBatch(layout, self.seeds, cluster, drawn.to(self.dtype))

    def views(self, step: int | Tensor) -> Views:
        """Return the views of a step as bytes in the order of positions."""
        patches, masked = self.generator.layout.patches, self.masked
        first = visible_patches(self._keys["masks"], step, 0, self.samples, patches, masked)
        if self.objective.view_count == 1:
            return (first,)
        if self.objective.masking().complementary:
            return first, ~first
        return first, visible_patches(self._keys["masks"], step, 1, self.samples, patches, masked)

    def words(
        self,
        step: int | Tensor,
        cluster: Int[Tensor, "seed sample"],
        position: Int[Tensor, "cluster slot"],
    ) -> Int[Tensor, "seed tile sample"]:
        """Return the first view of a step as words of 32 bits, in the order of ``position``."""
        patches = self.generator.layout.patches
        return visible_words(self._keys["masks"], step, 0, cluster, position, patches, self.masked)

    def latents(self, step: int | Tensor) -> Float[Tensor, "seed sample area"]:
        """Return the latents of a step in float32: drawn on the device, or on CPU and copied there."""
        if self.draws_latents:
            areas = self.generator.layout.areas
            return draw_latents(self.generator.latents, self._keys["latents"], step, self.samples, areas)
        return self.host_latents(int(step)).to(self.device)

    def host_latents(self, step: int) -> Float[Tensor, "seed sample area"]:
        """Return latents drawn on CPU."""
        areas = self.generator.layout.areas
        return draw_on_cpu(self.generator.latents, self.seeds, step, self.samples, areas)

    @property
    def draws_latents(self) -> bool:
        """Whether the distribution of the latents is drawn on the device."""
        return has_quantile(self.generator.latents)

    @cached_property
    def masked(self) -> Int[Tensor, " seed"]:
        """Masked patches of each seed's first view."""
        objective, patches = self.objective, self.generator.layout.patches
        ones = torch.ones(len(self.seeds), dtype=torch.int32, device=self.device)
        return ones * hyperparameter(objective, lambda one: one.masking().masked(patches), ones)

    def _clusters(self, step: int | Tensor) -> Int[Tensor, "seed sample"]:
        """Return sorted clusters, each with a probability within 2^-24 of 1/K; samples are exchangeable."""
        clusters = self.generator.layout.clusters
        if clusters == 1:
            return torch.zeros(len(self.seeds), self.samples, dtype=torch.int64, device=self.device)
        # u · K can round up to K where u is the largest number below 1
        drawn = uniforms(self._keys["clusters"], step, 0, self.samples, 1)[..., 0]
        return (drawn * clusters).long().clamp_(max=clusters - 1).sort(1).values

    @cached_property
    def _exists(self) -> Bool[Tensor, "cluster area"]:
        return torch.from_numpy(self.generator.layout.sizes > 0).to(self.device)

    @cached_property
    def _keys(self) -> dict[str, Int[Tensor, " seed"]]:
        purposes = ("clusters", "latents", "masks")
        return {purpose: stream_keys(self.seeds, purpose, self.device) for purpose in purposes}
