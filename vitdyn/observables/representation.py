"""What a model hands on: the representation of each patch, and that of an image.

Of the theory's layer, with orthonormal features, F_p = Σ_j A_{p→j} z_j v_{k,j} for an image of cluster k, so that in
the coordinates (k, j) a representation is area attention times latents, and 0 in the coordinates of other clusters.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitdyn._errors import require_kind
from vitdyn.data import PatchBatch
from vitdyn.kernels.inputs import check_batch
from vitdyn.models import LAYER, Correlations, Model, Parameters, area_attention, mean_area_attention
from vitdyn.models.checked import checked_outputs
from vitdyn.models.model import CLOSED_FORMS

_AT_A_TIME = 2**20  # numbers held at once, of the layer (seed, sample, area, query): 4 MiB in float32


def patch_representation(
    parameters: Parameters,
    batch: PatchBatch,
    visible: Bool[Tensor, "seed sample patch"],
    model: Model = LAYER,
) -> Float[Tensor, "seed sample patch feature"]:
    """Return F_p of every patch in the F coordinates of ``batch.contents()``. Memory: seeds · samples · P · F."""
    require_kind("batch", batch, PatchBatch)
    require_kind("model", model, Model)
    layer = _of_layer(parameters, model)
    if layer is None:
        return checked_outputs(model, parameters, batch, visible)
    attention = area_attention(layer, batch, visible)
    own = (attention * batch.latents[..., None]).transpose(2, 3)
    return batch.in_all_clusters(own)


def image_representation(
    parameters: Parameters,
    batch: PatchBatch,
    visible: Bool[Tensor, "seed sample patch"],
    model: Model = LAYER,
) -> Float[Tensor, "seed sample feature"]:
    """Return F = (1/P) Σ_p F_p of every image in the F coordinates of ``batch.contents()``, a few images at a time."""
    require_kind("batch", batch, PatchBatch)
    require_kind("model", model, Model)
    layer = _of_layer(parameters, model)
    if layer is None:
        return _in_parts(
            lambda part, seen: checked_outputs(model, parameters, part, seen).mean(2),
            batch,
            visible,
            model.stored_numbers(*batch.contents_shape[2:], 1),
        )
    check_batch(layer, batch, visible)
    means = _in_parts(
        lambda part, seen: mean_area_attention(layer, part, seen) * part.latents,
        batch,
        visible,
        batch.layout.areas * batch.layout.patches,
    )
    return batch.in_all_clusters(means)


def _of_layer(parameters: Parameters, model: Model) -> Correlations | None:
    """Return the parameters where the model is the theory's layer, whose area attention is made fast."""
    if CLOSED_FORMS not in model.offers:
        return None
    require_kind("correlations", parameters, Correlations)
    assert isinstance(parameters, Correlations)
    return parameters


def _in_parts(
    make: Callable[[PatchBatch, Tensor], Tensor], batch: PatchBatch, visible: Tensor, numbers: int
) -> Tensor:
    """Return what ``make`` gives for a few samples at a time, each of which takes so many numbers."""
    size = max(1, _AT_A_TIME // (len(batch.seeds) * numbers))
    spans = [slice(start, start + size) for start in range(0, batch.count, size)]
    return torch.cat([make(batch.part(few), visible[:, few]) for few in spans], 1)
