"""What a model gives, compared with what it must give: whoever wrote it is told in one line."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
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


def require_streams(model: Model, parameters: Parameters, batch: PatchBatch, visible: Tensor) -> None:
    """Raise ``ValueError`` unless a model's streams are what a model must give."""
    found, what = model.streams(parameters, batch, visible), f"{type(model).__name__}.streams"
    _require_real(what, found, parameters)
    shape = (len(batch.seeds), batch.count, model.layers, batch.layout.patches, *found.shape[4:5])
    _require_shape(what, found, shape, "layer, query, and coordinates of the model's")


def require_finite(what: str, found: Tensor) -> None:
    """Raise ``ValueError`` unless all that a model gave is finite."""
    if not found.isfinite().all():
        raise invalid_value(what, "not finite", "must be finite at the start")


def require_distributions(model: Model, maps: Tensor) -> None:
    """Raise ``ValueError`` unless the rows of attention maps are distributions over keys, as metrics of maps need."""
    sums = maps.sum(-1)
    if not ((maps >= 0).all() and torch.allclose(sums, torch.ones_like(sums), rtol=0, atol=1e-3)):
        words = "must be distributions over keys, which add up to 1: give area_attention alone for any other"
        raise invalid_value(f"{type(model).__name__}.attention_maps", "other rows", words)


def require_own_outputs(model: Model, parameters: Parameters, batch: PatchBatch, visible: Tensor) -> None:
    """Raise ``ValueError`` unless a seed's outputs are made of what is its own, the same at each call.

    Asked of the last of a few seeds: its outputs among them and alone are the same, but for round-off, and depend on no
    other seed's parameters. What the model is given must be as it was.
    """
    what = f"{type(model).__name__}.outputs"
    leaves = parameters.map(lambda block: block.detach().clone().requires_grad_())
    given = _tensors_of(leaves, batch, visible)
    before = {name: part.detach().clone() for name, part in given.items()}
    with torch.enable_grad():
        found = checked_outputs(model, leaves, batch, visible)[-1]
    for name, part in given.items():
        if not torch.equal(part, before[name]):
            raise invalid_value(what, f"{name} changed in place", "must copy what it changes")
    own = batch.map(lambda part: part[-1:], seeds=batch.seeds[-1:])
    with torch.no_grad():
        alone = checked_outputs(model, parameters.map(lambda block: block[-1:]), own, visible[-1:])[0]
    scale = float(found.detach().nan_to_num().abs().max())
    if not torch.allclose(found, alone, rtol=0, atol=1e-3 * scale, equal_nan=True):
        words = (
            "must be the same at each call, whatever other seeds there are: draw what is random in initial"
        )
        raise invalid_value(what, "other numbers of the same seed", words)
    if found.requires_grad and _moves_with_others(found, leaves):
        words = "must be made of its own parameters alone: the first axis is that of seeds"
        raise invalid_value(what, "outputs of a seed that move with another's parameters", words)


def _tensors_of(parameters: Parameters, batch: PatchBatch, visible: Tensor) -> dict[str, Tensor]:
    """Return all tensors that a model is given, by name; the table of areas that batches share among them."""
    parts = {each.name: getattr(batch, each.name) for each in fields(batch)} | {
        "membership": batch.membership
    }
    found = {f"batch.{name}": part for name, part in parts.items() if isinstance(part, Tensor)}
    return (
        found
        | {f"parameters.{name}": block for name, block in parameters.named().items()}
        | {"visible": visible}
    )


def _moves_with_others(found: Tensor, leaves: Parameters) -> bool:
    """Return whether outputs of the last seed have a slope in parameters of another."""
    slopes = torch.autograd.grad(found.sum(), list(leaves.named().values()), allow_unused=True)
    others = [slope[:-1] for slope in slopes if slope is not None]
    return any(bool((other.isfinite() & (other != 0)).any()) for other in others)


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
