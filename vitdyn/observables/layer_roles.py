"""What each layer does: what masked patches hold after it, and what the loss is without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import nan

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._axes import GLOBAL_AREA, LAYER, SEED
from vitdyn._errors import invalid_value, require_choice
from vitdyn.models import Parameters, Transformer
from vitdyn.models.model import STREAMS
from vitdyn.objectives.contract import loss_of
from vitdyn.objectives.forward import ForwardPass
from vitdyn.objectives.model_pass import ModelPass, model_pass
from vitdyn.observables.observable import Observable
from vitdyn.observables.state import ModelState

_NOT_ATTENTION = {"value", "output", "mlp_in", "mlp_out"}
"""Tensors of a Transformer that its logits do not read."""

Altered = Iterator[tuple[Transformer, Parameters]]


def _restored(state: ModelState) -> Float[Tensor, "seed layer"]:
    """Return s_p · X_p / ‖X_p‖² in the mean over masked local patches of which some of the area is visible."""
    batch, view = state.batch, state.views[0]
    counted = state.masks[0] & batch.own_area_visible(view) & (batch.area != GLOBAL_AREA)
    contents = batch.contents()[:, :, None]
    streams = state.model.streams(state.parameters, batch, view)[..., : contents.shape[-1]]
    shares = (streams * contents).sum(-1) / contents.square().sum(-1)
    # layers stand between samples and patches
    weight = counted.to(streams)[:, :, None] / counted.sum((1, 2))[:, None, None, None]
    return (shares * weight).sum((1, 3))


def _transformer(state: ModelState) -> Transformer:
    model = state.model
    # of a subclass further tensors may have other axes than that of layers
    if type(model) is not Transformer:
        raise invalid_value("model", model.name, "must be a Transformer, of which layers can be taken")
    return model


def _without_layer(state: ModelState) -> Altered:
    layers = range(state.model.layers)
    for left_out in layers:
        kept: Sequence[int] = [layer for layer in layers if layer != left_out]
        yield (
            replace(_transformer(state), layers=len(kept)),
            state.parameters.map(lambda block, kept=kept: block[:, kept]),
        )


def _of_uniform_layer(state: ModelState) -> Altered:
    for layer in range(state.model.layers):
        blocks = {name: block.clone() for name, block in state.parameters.named().items()}
        for name in blocks.keys() - _NOT_ATTENTION:
            blocks[name][:, layer] = 0.0
        yield _transformer(state), state.parameters.rebuilt(blocks)


def _rises(state: ModelState, altered: Callable[[ModelState], Altered]) -> Float[Tensor, "seed layer"]:
    """Return by how much the loss of the evaluation batch, without weight decay, is larger for each altered model."""
    objective, forward = state.objective, state.forward
    whole = loss_of(objective, forward)
    passes = (model_pass(*each, state.batch, state.views, forward.state) for each in altered(state))
    return torch.stack([loss_of(objective, _beside_teacher(forward, each)) - whole for each in passes], 1)


def _beside_teacher(whole: ForwardPass, altered: ModelPass) -> ModelPass:
    """Return the pass of an altered model, to which a teacher is seen through all layers that it has."""
    return replace(
        altered,
        attend=whole.attend,
        see=lambda teacher, view: altered.outputs(view) if teacher is None else whole.outputs(view, teacher),
    )


def _rise_without_layer(state: ModelState) -> Float[Tensor, "seed layer"]:
    if _transformer(state).layers == 1:  # nothing would be left
        return loss_of(state.objective, state.forward)[:, None] * nan
    return _rises(state, _without_layer)


def _rise_of_uniform_layer(state: ModelState) -> Float[Tensor, "seed layer"]:
    return _rises(state, _of_uniform_layer)


_ROLES: dict[str, tuple[str, str, Callable[[ModelState], Tensor]]] = {
    "restored_share": (
        "s·X/‖X‖²",
        "part of its own content that a masked local patch holds after a layer, where some of its area is visible",
        _restored,
    ),
    "rise_without_layer": (
        "ΔL",
        "rise of the loss where a layer is left out: what it brings",
        _rise_without_layer,
    ),
    "rise_of_uniform_layer": (
        "ΔL_0",
        "rise of the loss where a layer attends uniformly, as at Q = 0: what it has learned",
        _rise_of_uniform_layer,
    ),
}
"""Symbol, meaning and formula of each number."""


@dataclass(frozen=True, kw_only=True)
class LayerRole:
    """A number of each layer of a model, by its name: what an ``Observable`` computes.

    The loss is that of the evaluation batch. Layers are left out of a ``Transformer`` alone.
    """

    name: str

    def __post_init__(self) -> None:
        require_choice("LayerRole.name", self.name, _ROLES)

    def __call__(self, state: ModelState) -> Float[Tensor, "seed layer"]:
        """Return the number of a state. Raises ``ValueError`` for a model whose layers cannot be left out."""
        return _ROLES[self.name][2](state)


LAYER_ROLES: dict[str, Observable] = {
    name: Observable(
        name=name,
        compute=LayerRole(name=name),
        axes=(SEED, LAYER),
        symbol=symbol,
        meaning=meaning,
        may_be_missing=True,
        needs=STREAMS,
    )
    for name, (symbol, meaning, _) in _ROLES.items()
}
"""What each layer does."""
