"""What attention is asked of: a batch that fits its layout, and where an input is not finite."""

from __future__ import annotations

from math import isfinite

import torch
from jaxtyping import Bool
from torch import Tensor

from vitdyn._errors import invalid_value, require_kind
from vitdyn.data import PatchBatch, PatchLayout
from vitdyn.kernels.parameters import Correlations


def check_batch(correlations: Correlations, batch: PatchBatch, visible: Tensor) -> None:
    """Raise ``ValueError`` unless a batch fits its layout: shapes, clusters that there are, views of 0 and 1."""
    require_kind("correlations", correlations, Correlations)
    require_kind("batch", batch, PatchBatch)
    require_layers_data(batch)
    layout, latents, cluster = batch.layout, batch.latents, batch.cluster
    require_kind("layout", layout, PatchLayout)
    for field, tensor, axes in (("latents", latents, 3), ("cluster", cluster, 2), ("visible", visible, 3)):
        if not isinstance(tensor, Tensor) or tensor.ndim != axes or tensor.layout != torch.strided:
            raise invalid_value(field, tensor, f"must be a dense tensor with {axes} axes")
    # compiled kernels index by these without a test: a cluster beyond the layout's would read foreign memory
    if cluster.is_floating_point() or (
        cluster.numel() and not 0 <= cluster.min() <= cluster.max() < layout.clusters
    ):
        raise invalid_value(
            "cluster", f"from {cluster.min()} to {cluster.max()}", f"must be 0 to {layout.clusters - 1}"
        )
    if visible.dtype != torch.bool and not ((visible == 0) | (visible == 1)).all():
        raise invalid_value("visible", f"{visible.dtype}", "must be true or false, 1 or 0, for each patch")
    seeds, samples = cluster.shape
    expected = {
        "correlations.feature_position": (seeds, layout.patches, layout.clusters, layout.areas),
        "correlations.position_position": (seeds, layout.patches, layout.patches),
        "latents": (seeds, samples, layout.areas),
        "visible": (seeds, samples, layout.patches),
    }
    given = (correlations.feature_position, correlations.position_position, latents, visible)
    for (name, shape), tensor in zip(expected.items(), given, strict=True):
        if tuple(tensor.shape) != shape:
            raise invalid_value(
                f"{name}.shape", tuple(tensor.shape), f"must be {shape} for this layout and batch"
            )


def require_layers_data(batch: PatchBatch) -> None:
    """Raise ``ValueError`` for a batch with more than latents of orthonormal features in fixed areas."""
    if batch.beyond_layer is not None:
        remedy = "the layer's kernels do not know such data: take its plain twin, OneLayer().plain()"
        raise invalid_value("batch", batch.beyond_layer, remedy)


def not_finite(correlations: Correlations, latents: Tensor) -> Bool[Tensor, "seed sample query"] | None:
    """Return for which samples and queries an input is not finite, which kernels may pass over; None for none."""
    blocks = correlations.named().values()
    # a sum is not finite where a number is not; where finite numbers overflow it, the exact look below finds none
    with torch.no_grad():
        sums = [part.sum() for part in (*blocks, latents)]
    if all(map(isfinite, sums)):
        return None
    phi, upsilon, *content = (block.isfinite() for block in blocks)
    sound = (phi.flatten(2).all(-1) & upsilon.all(-1))[:, None] & latents.isfinite().all(-1)[..., None]
    for block in content:
        sound = sound & block.flatten(1).all(1)[:, None, None]
    return ~sound
