"""A model that is not what training needs is refused on one line, before work starts (exact)."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.nn.functional import dropout

import vitdyn as vd
from vitdyn.dynamics import loop
from vitdyn.objectives import OBJECTIVES

GENERATOR = vd.PatchGenerator(layout=vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5))
ELSEWHERE = torch.ones(16, requires_grad=True)


class Mixing(vd.Model):
    """Every query is given one trained mixture of what is shown."""

    def initial(self, generator, streams, like):
        return vd.Parameters(
            weights=like.new_ones(len(streams.seeds), 16, 16), bias=like.new_zeros(len(streams.seeds))
        )

    def outputs(self, parameters, batch, visible):
        return parameters.weights[:, None] @ (batch.contents() * visible[..., None])


def with_methods(parent=Mixing, **methods):
    return type("Mine", (parent,), methods)()


def giving(function):
    """A model whose outputs are another function of what ``Mixing``'s are."""
    return with_methods(
        outputs=lambda self, parameters, batch, visible: function(
            Mixing.outputs(self, parameters, batch, visible), parameters
        )
    )


def starting(**blocks):
    """A model whose initial parameters have other blocks, of one seed."""
    return with_methods(
        initial=lambda self, generator, streams, like: vd.Parameters(
            **{"weights": like.new_ones(len(streams.seeds), 16, 16)}
            | {name: make(like) for name, make in blocks.items()}
        )
    )


class ReadsAttention(vd.MaskedReconstruction):
    """An objective that reads area attention."""

    name = "reads-attention"

    def loss(self, forward):
        return forward.attention[0].square().sum((1, 2, 3))


def refuse(model, objective=None, **fields):
    given = {"seeds": 2, "steps": 2, "batch_size": 8} | fields
    spec = vd.Training(
        generator=GENERATOR, objective=objective or vd.MaskedReconstruction(), model=model, **given
    )
    return vd.simulate(spec)


BAD = {
    "no tensor": (giving(lambda found, _: found.tolist()), "Mine.outputs", "must be a tensor"),
    "too few features": (giving(lambda found, _: found[..., 1:]), "Mine.outputs.shape", "the shape (2, 4, 16, 3)"),
    "too few queries": (giving(lambda found, _: found[:, :, 1:]), "Mine.outputs.shape", "must have the shape"),
    "no axis of seeds": (giving(lambda found, _: found[0]), "Mine.outputs.shape", "must have the shape"),
    "another precision": (giving(lambda found, _: found.double()), "Mine.outputs", "must be torch.float32 on cpu"),
    "whole numbers": (giving(lambda found, _: found.long()), "Mine.outputs", "must be torch.float32 on cpu"),
    "not finite": (giving(lambda found, _: found * torch.nan), "Mine.outputs", "must be finite at the start"),
    "a gradient that is not": (
        giving(lambda found, own: found * (1 + own.bias.sqrt().sum() ** 2)),
        "Mine.outputs",
        "the gradient of the loss is not finite at the start",
    ),
    "detached": (giving(lambda found, _: found.detach()), "Mine.outputs", "must depend on weights or bias"),
    "trained elsewhere": (
        giving(lambda found, _: found.detach() * ELSEWHERE[:, None]),
        "Mine.outputs",
        "must depend on weights or bias by differentiable operations",
    ),
    "failing": (giving(lambda found, own: found @ own.weights), "model", "fails on 4 samples (RuntimeError: "),
    "no parameters": (
        with_methods(initial=lambda self, generator, streams, like: like),
        "Mine.initial",
        "must be Parameters(name=tensor, ...)",
    ),
    "parameters of no seed": (starting(bias=lambda like: like.new_ones(7)), "Mine.initial.bias", "an axis of 1 seeds"),
    "a number": (starting(bias=lambda like: like.new_tensor(1.0)), "Mine.initial.bias", "an axis of 1 seeds"),
    "parameters of another precision": (
        starting(bias=lambda like: torch.ones(1, dtype=torch.float64)),
        "Mine.initial.bias",
        ".to(like)",
    ),
    "infinite": (starting(bias=lambda like: like.new_full((1,), torch.inf)), "Mine.initial.bias", "finite numbers"),
    "no block": (starting(bias=lambda like: 1.0), "Parameters.bias", "must be a tensor with an axis of seeds first"),
    "a taken name": (starting(map=lambda like: like.new_ones(1)), "Parameters.map", "take another name"),
    "maps of another shape": (
        with_methods(attention_maps=lambda self, parameters, batch, visible: parameters.weights[:, None]),
        "Mine.attention_maps.shape",
        "must have the shape (2, 2, 1, 1, 16, 16): seed, sample, layer, head, query, key",
    ),
    "attention of another shape": (
        with_methods(area_attention=lambda self, parameters, batch, visible: parameters.weights[:, None]),
        "Mine.area_attention.shape",
        "must have the shape (2, 4, 3, 16): seed, sample, area, query",
    ),
    "maps that are no distributions": (
        with_methods(
            attention_maps=lambda self, parameters, batch, visible: parameters.weights[:, None, None, None].expand(
                -1, batch.count, 1, 1, -1, -1
            )
        ),
        "Mine.attention_maps",
        "must be distributions over keys",
    ),
    "attention that is not finite": (
        with_methods(
            area_attention=lambda self, parameters, batch, visible: torch.full((2, 4, 3, 16), torch.nan)
        ),
        "Mine.area_attention",
        "must be finite at the start",
    ),
    "streams of another shape": (with_methods(streams=Mixing.outputs), "Mine.streams.shape", "(2, 4, 1, 16)"),
    "a seed's weights for all": (
        giving(lambda found, own: found * own.bias[:1, None, None, None].exp()),
        "Mine.outputs",
        "must be made of its own parameters alone",
    ),
    "a mean over seeds": (giving(lambda found, _: found / found.mean()), "Mine.outputs", "whatever other seeds"),
    "chance at each call": (giving(lambda found, _: dropout(found, 0.5)), "Mine.outputs", "the same at each call"),
    "weights changed in place": (
        giving(lambda found, own: (own.weights.data.mul_(0.9), found)[1]),
        "Mine.outputs",
        "must copy what it changes",
    ),
    "a view changed in place": (
        with_methods(
            outputs=lambda self, parameters, batch, visible: Mixing.outputs(
                self, parameters, batch, visible.fill_(True)
            )
        ),
        "Mine.outputs",
        "must copy what it changes",
    ),
    "one stream for all seeds": (
        with_methods(
            initial=lambda self, generator, streams, like: vd.Parameters(
                weights=torch.rand(len(streams.seeds), 16, 16, generator=torch.Generator().manual_seed(0))
            )
        ),
        "Mine.initial.weights",
        "whatever other seeds there are",
    ),
    "no Φ": (with_methods(offers=frozenset({"correlations"})), "parameters", "feature_position and position_position"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=str)
def test_it_is_refused_on_one_line_before_work_starts(case, complaint, monkeypatch):
    model, field, remedy = BAD[case]
    monkeypatch.setattr(loop.Loop, "__init__", lambda *_: pytest.fail("work started"))
    with complaint(field, remedy):
        refuse(model)


def test_an_objective_that_reads_attention_needs_a_model_with_some(complaint):
    with complaint("model", "has no attention: give Mixing.attention_maps, or area_attention alone"):
        refuse(Mixing(), ReadsAttention())
    assert refuse(vd.Transformer(initial_scale=0.1), ReadsAttention())["loss"].notnull().all()


def test_a_parameter_that_the_loss_does_not_see_stays():
    found = refuse(Mixing())
    assert (found["final_bias"] == 0).all() and (found["final_weights"] != 1).any()


def test_what_a_training_takes_as_a_model(complaint):
    with complaint("model", "must be a Model"):
        refuse(vd.Transformer)
    with complaint("content_queries", "is of the theory's layer"):
        refuse(Mixing(), content_queries=True)
    with complaint("observables", "needs area attention, which mixing lacks"):
        reads = vd.Observable(name="mine", compute=len, needs="area attention")
        refuse(Mixing(), observables=(*vd.RECORD, reads))
    with complaint("model", "its fields must be hashable: tuples in the place of lists"):
        refuse(dataclass(frozen=True)(type("Mine", (Mixing,), {"__annotations__": {"widths": list}}))([1, 2]))


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=lambda kind: kind.name)
def test_every_objective_trains_a_model_of_ones_own(objective):
    """A few samples are enough to ask: none is refused that trains."""
    drawn = with_methods(
        initial=lambda self, generator, streams, like: vd.Parameters(
            weights=torch.from_numpy(np.stack([each.random((16, 16)) for each in streams.each()])).to(like)
            / 8
        )
    )
    found = refuse(drawn, objective(), batch_size=16, evaluation_samples=16, precision="float64")
    assert found["loss"].notnull().all()
