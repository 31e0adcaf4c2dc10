"""What a model gives, compared with what it must give: whoever wrote it is told in one line."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value
from vitdyn.data import PatchBatch
from vitdyn.kernels import Parameters
from vitdyn.models.model import Model


def checked_outputs(
    model: Model, parameters: Parameters, batch: PatchBatch, visible: Tensor
) -> Float[Tensor, "seed sample query feature"]:
    """Return a model's outputs in feature space. Raises ``ValueError`` unless they are what a model must give."""
    found, shape = model.outputs(parameters, batch, visible), tuple(batch.contents_shape)
    what = f"{type(model).__name__}.outputs"
    _require_real(what, found, parameters)
    if found.ndim != 4 or tuple(found.shape[:3]) != shape[:3] or found.shape[3] < shape[3]:
        words = f"must have the shape {shape}: seed, sample, query, feature, or more coordinates than these"
        raise invalid_value(f"{what}.shape", tuple(found.shape), words)
    return found[..., : shape[3]]


def checked_area_attention(
    model: Model, parameters: Parameters, batch: PatchBatch, visible: Tensor
) -> Float[Tensor, "seed sample area query"]:
    """Return a model's area attention. Raises ``ValueError`` unless it is what a model must give."""
    layout, found = batch.layout, model.area_attention(parameters, batch, visible)
    what = f"{type(model).__name__}.area_attention"
    _require_real(what, found, parameters)
    _require_shape(what, found, (len(batch.seeds), batch.count, layout.areas, layout.patches), "area, query")
    return found


def checked_maps(
    model: Model, parameters: Parameters, batch: PatchBatch, visible: Tensor
) -> Float[Tensor, "seed sample layer head query key"]:
    """Return a model's attention maps. Raises ``ValueError`` unless they are what a model must give."""
    found, sides = model.attention_maps(parameters, batch, visible), (batch.layout.patches,) * 2
    what = f"{type(model).__name__}.attention_maps"
    _require_real(what, found, parameters)
    shape = (len(batch.seeds), batch.count, model.layers, model.heads, *sides)
    _require_shape(what, found, shape, "layer, head, query, key")
    return found


def _require_real(what: str, found: Any, parameters: Parameters) -> None:
    like = parameters.like
    if not isinstance(found, Tensor):
        raise invalid_value(what, type(found).__name__, "must be a tensor")
    if (found.dtype, found.device) != (like.dtype, like.device):
        words = f"must be {like.dtype} on {like.device}, as the parameters are"
        raise invalid_value(what, f"{found.dtype} on {found.device}", words)


def _require_shape(what: str, found: Tensor, shape: tuple[int, ...], axes: str) -> None:
    if tuple(found.shape) != shape:
        words = f"must have the shape {shape}: seed, sample, {axes}"
        raise invalid_value(f"{what}.shape", tuple(found.shape), words)
