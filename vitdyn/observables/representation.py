"""What the layer hands on: the representation of each patch, and that of an image.

With orthonormal features, F_p = Σ_j A_{p→j} z_j v_{k,j} for an image of cluster k, so that in the coordinates (k, j)
a representation is area attention times latents, and 0 in the coordinates of other clusters.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitdyn._errors import require_kind
from vitdyn.data import PatchBatch
from vitdyn.kernels.inputs import check_batch
from vitdyn.models import Correlations, area_attention, mean_area_attention

_AT_A_TIME = 2**20  # entries (seed, sample, area, query) of area attention held at once: 4 MiB in float32


def patch_representation(
    correlations: Correlations, batch: PatchBatch, visible: Bool[Tensor, "seed sample patch"]
) -> Float[Tensor, "seed sample patch feature"]:
    """Return F_p of every patch in the coordinates (k, j), K · N of them. Memory: seeds · samples · P · K · N."""
    require_kind("batch", batch, PatchBatch)
    attention = area_attention(correlations, batch, visible)
    own = (attention * batch.latents[..., None]).transpose(2, 3)
    return batch.in_all_clusters(own)


def image_representation(
    correlations: Correlations, batch: PatchBatch, visible: Bool[Tensor, "seed sample patch"]
) -> Float[Tensor, "seed sample feature"]:
    """Return F = (1/P) Σ_p F_p of every image in the coordinates (k, j), a few images at a time."""
    require_kind("batch", batch, PatchBatch)
    layout = batch.layout
    check_batch(correlations, batch, visible)
    size = max(1, _AT_A_TIME // (len(batch.seeds) * layout.areas * layout.patches))
    parts = []
    for start in range(0, batch.count, size):
        few = slice(start, start + size)
        part = batch.part(few)
        means = mean_area_attention(correlations, part, visible[:, few])
        parts.append(means * part.latents)
    return batch.in_all_clusters(torch.cat(parts, 1))
