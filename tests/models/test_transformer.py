"""The Transformer is what its docstring says: the theory's layer, a literal loop, and transformers' ViT (exact)."""

from dataclasses import replace
from itertools import product
from math import sqrt

import numpy as np
import pytest
import torch
from literal_transformer import literal

from vitdyn.data import PatchGenerator, PatchLayout, Uniform
from vitdyn.dynamics import Adam, Schedule, Training, loss_gradient, simulate, simulate_grid
from vitdyn.experiments import Experiment
from vitdyn.models import Correlations, OneLayer, Transformer, as_parameters
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.seeds import Streams

OBJECTIVES = {"mae": MaskedReconstruction(), "cl": Contrastive(weight_decay=0.001)}
BOTH = pytest.mark.parametrize("objective", OBJECTIVES)
CONTENT = pytest.mark.parametrize("content", [False, True], ids=["positions", "content"])
LAYOUTS = {
    1: PatchLayout.from_sizes([[6, 3, 2]], seed=2),
    2: PatchLayout.from_sizes([[6, 3, 2], [5, 6]], seed=2),
}
SMALL = PatchLayout.from_sizes([[2, 1], [1, 2]])
FULL = Transformer(
    layers=2, heads=2, values="scalar", residual=True, mlp=5, norm=True, temperature=1.5, content_queries=True,
    initial_scale=0.3,
)  # fmt: skip


def generator(layout):
    return PatchGenerator(layout=layout, latents=Uniform(low=0.5, high=1.5))


def training(model, objective="mae", layout=LAYOUTS[2], **changes):
    small = {"steps": 12, "batch_size": 6, "evaluation_samples": 5, "seeds": (3, 8), "precision": "float64"}
    small |= {"optimizer": Adam(learning_rate=0.02)} if model.layers > 1 else {}
    small |= {"schedule": Schedule(spacing="linear", frames=5), "objective": OBJECTIVES[objective]}
    return Training(model=model, generator=generator(layout), **small | changes)


def final(run):
    """The parameters at the end, by name."""
    names = [str(name) for name in run.dataset if str(name).startswith("final_")]
    return as_parameters(
        {name.removeprefix("final_"): torch.from_numpy(run[name].to_numpy()) for name in names}
    )


def start(model, layout, seeds=(0, 1)):
    return model.initial(generator(layout), Streams(seeds, "model"), torch.empty(0, dtype=torch.float64))


def away(model, layout, rng, seeds=(0, 1)):
    """Parameters of which none is at its start."""
    drawn = start(model, layout, seeds)
    return drawn.map(lambda block: block + 0.4 * torch.from_numpy(rng.standard_normal(block.shape)))


def data(layout, rng, seeds=2, samples=2):
    """A batch and a random view of it."""
    batch = generator(layout).sample(samples, seeds=range(seeds), step=int(rng.integers(1000)))
    return batch, torch.from_numpy(rng.random((seeds, samples, layout.patches)) < 0.6)


def plainly(correlations):
    """The blocks of Q as the parameters of one layer of one head: Ξ has all pairs of features, also across clusters."""
    blocks = {name: block.numpy() for name, block in correlations.named().items()}
    seeds, patches, clusters, areas = blocks["feature_position"].shape
    features = clusters * areas
    if "content_content" in blocks:
        own = np.einsum("ckij,kl->ckilj", blocks["content_content"], np.eye(clusters))
        blocks["content_content"] = own.reshape(seeds, features, features)
    sizes = {"feature": features, "content": features, "position": patches}
    for name, block in blocks.items():
        key, query = name.split("_")
        rows, columns = (query, key) if name == "feature_position" else (key, query)
        blocks[name] = torch.from_numpy(block.reshape(seeds, 1, 1, sizes[rows], sizes[columns]))
    return as_parameters(blocks, features)


def agree(one, other, tolerance=1e-12):
    """Assert that parameters agree to a part of the largest entry."""
    assert one.named().keys() == other.named().keys()
    largest = max(float(block.abs().max()) for block in other.named().values())
    for name, block in one.named().items():
        assert block.shape == getattr(other, name).shape
        assert float((block - getattr(other, name)).abs().max()) <= tolerance * largest, name


class TestTheLayer:
    """One head, values the identity, no residual: the theory's."""

    @CONTENT
    @BOTH
    @pytest.mark.parametrize("clusters", LAYOUTS)
    def test_its_trajectory_is_the_layers(self, clusters, objective, content):
        plain = training(OneLayer().plain(content_queries=content), objective, LAYOUTS[clusters], steps=40)
        fast, slow = simulate(replace(plain, model=OneLayer(), content_queries=content)), simulate(plain)
        for name in ("area_attention", "own_area_attention", "loss", "reconstruction_error"):
            np.testing.assert_allclose(slow[name], fast[name], rtol=0, atol=1e-12, err_msg=name)
        theirs = plainly(final(fast))
        assert all(
            block.abs().max() > 0.01 for name, block in theirs.named().items() if "content_" not in name
        )
        agree(final(slow), theirs)

    @CONTENT
    @BOTH
    def test_its_gradient_is_the_dense_references(self, objective, content, make_problem, dense_model):
        problem, loss = make_problem(content=content), OBJECTIVES[objective]
        matrix = problem.correlations.to_matrix(problem.basis).requires_grad_()
        of_matrix = dense_model(problem, content=content).loss(loss, matrix)
        (gradient,) = torch.autograd.grad(of_matrix.sum(), matrix)
        truth = Correlations.from_matrix(gradient, problem.basis, content_queries=content)
        model, given = OneLayer().plain(content_queries=content), (problem.batch, problem.views, {})
        found, _ = loss_gradient(plainly(problem.correlations), loss, *given, model=model)
        agree(found, plainly(truth), 1e-10)


@pytest.mark.parametrize("positions", ["logits", "stream"])
@pytest.mark.parametrize("key_dimension", [None, 4])
@CONTENT
def test_a_literal_loop_gives_the_same(content, key_dimension, positions, rng):
    values = ("identity", "scalar", "matrix", "projections")[: 3 if key_dimension is None else 4]
    for kind, norm, (residual, mlp) in product(values, (False, True), ((False, 0), (True, 0), (True, 3))):
        model = Transformer(
            layers=2, heads=2, values=kind, residual=residual, mlp=mlp, norm=norm, temperature=1.7,
            content_queries=content, key_dimension=key_dimension, positions=positions, initial_scale=0.3,
        )  # fmt: skip
        parameters, (batch, visible) = away(model, SMALL, rng), data(SMALL, rng)
        outputs, maps = literal(model, parameters, batch.contents().numpy(), visible.numpy())
        found = model.outputs(parameters, batch, visible)
        np.testing.assert_allclose(found, outputs, rtol=0, atol=1e-12 * max(1, abs(outputs).max()))
        np.testing.assert_allclose(model.attention_maps(parameters, batch, visible), maps, rtol=0, atol=1e-12)


def test_it_is_transformers_vit(rng):
    """Where configurations coincide: no biases, norms without weights, before the last norm. Outputs and gradients."""
    transformers, layout = pytest.importorskip("transformers"), PatchLayout.from_sizes([[6, 3, 4]], seed=2)
    width = 3 + layout.patches
    config = transformers.ViTConfig(
        hidden_size=width, num_attention_heads=2, num_hidden_layers=2, intermediate_size=9, qkv_bias=False,
        layer_norm_eps=1e-5, attn_implementation="sdpa",
    )  # fmt: skip
    theirs = transformers.ViTModel(config, add_pooling_layer=False).double().eval().layers
    model = Transformer(
        layers=2, heads=2, values="projections", residual=True, mlp=9, norm=True, temperature=sqrt(width / 2),
        content_queries=True, key_dimension=width, positions="stream", initial_scale=0.3,
    )  # fmt: skip
    leaves, (batch, visible) = away(model, layout, rng, seeds=(0,)), data(layout, rng, seeds=1)
    for weights, value in their_weights(theirs, leaves):
        weights.data.copy_(value)
    outputs = model.outputs(leaves.map(lambda block: block.requires_grad_()), batch, visible)[0]
    positions = torch.eye(layout.patches, dtype=torch.float64).expand(batch.count, -1, -1)
    hidden = torch.cat([(batch.contents() * visible[..., None])[0], positions], -1)
    for block in theirs:
        hidden = block(hidden, None)
    assert (outputs - hidden).abs().max() < 1e-10
    cotangent = torch.from_numpy(rng.standard_normal(hidden.shape))
    hidden.backward(cotangent)
    names = leaves.named()
    found = dict(zip(names, torch.autograd.grad(outputs, list(names.values()), cotangent), strict=True))
    for weights, gradient in their_weights(theirs, as_parameters(found)):
        assert (weights.grad - gradient).abs().max() < 1e-10 * gradient.abs().max()


def their_weights(blocks, parameters):
    """Pairs of a weight of transformers' ViT and what it is of ours: heads side by side, contents before positions."""
    for layer, block in enumerate(blocks):
        own = {name: tensor[0, layer].detach() for name, tensor in parameters.named().items()}
        for name, weights in (("query", block.attention.q_proj), ("key", block.attention.k_proj)):
            heads = torch.cat([own[f"{name}_content"], own[f"{name}_position"]], 1)
            yield weights.weight, torch.cat(list(heads), 1).T
        yield block.attention.v_proj.weight, torch.cat(list(own["value"]), 1).T
        yield block.attention.o_proj.weight, torch.cat(list(own["output"])).T
        yield block.mlp.fc1.weight, own["mlp_in"].T
        yield block.mlp.fc2.weight, own["mlp_out"].T


class TestHeads:
    @pytest.mark.parametrize("precision", ["float32", "float64"])
    @pytest.mark.parametrize("patches", [7, 16])
    def test_equal_heads_stay_equal_to_the_bit(self, patches, precision):
        layout = PatchLayout.from_exponents(patches, 0.7, 0.4, clusters=2)
        model = Transformer(layers=2, heads=3, values="matrix", residual=True, content_queries=True)
        run = training(model, "cl", layout, precision=precision, steps=20)
        for name, block in final(simulate(run)).named().items():
            assert (block[:, :, :1] == block).all(), name
            assert (block - getattr(start(model, layout), name)).abs().max() > 0.05, name

    def test_random_heads_part_on_the_way_and_come_back(self):
        """Measured: how two heads differ in the pull of their own area grows while that is learned, and then fades."""
        model, layout = Transformer(heads=2, initial_scale=1e-3), PatchLayout.from_exponents(16, 0.75, 0.5)
        own = torch.from_numpy(layout.area_of_patch[0])
        local = torch.nonzero(own)[:, 0]

        def apart(parameters):
            heads = parameters.feature_position[:, 0, :, local, own[local]]
            return (heads[:, 0] - heads[:, 1]).square().mean(1).sqrt()

        first = apart(start(model, layout, seeds=(3, 8)))
        amid, late = (
            apart(final(simulate(training(model, layout=layout, steps=steps)))) for steps in (20, 200)
        )
        assert (amid > 1.4 * first).all()
        assert (late < first).all()

    def test_a_permutation_of_heads_is_one_of_everything(self, rng):
        model, order = replace(FULL, heads=3, mlp=0), [2, 0, 1]
        parameters, (batch, visible) = away(model, LAYOUTS[2], rng), data(LAYOUTS[2], rng)
        other = parameters.map(lambda block: block[:, :, order])
        maps = [model.attention_maps(each, batch, visible) for each in (parameters, other)]
        assert torch.allclose(maps[0][:, :, :, order], maps[1], rtol=0, atol=1e-13)
        assert (maps[0][:, :, :, 0] - maps[0][:, :, :, 1]).abs().max() > 0.1
        outputs = [model.outputs(each, batch, visible) for each in (parameters, other)]
        assert torch.allclose(*outputs, rtol=0, atol=1e-13)
        one, two = (
            loss_gradient(each, OBJECTIVES["cl"], batch, (visible, ~visible), {}, model=model)[0]
            for each in (parameters, other)
        )
        agree(one.map(lambda block: block[:, :, order]), two)


class TestRuns:
    def test_a_seed_alone_is_what_it_is_among_others_and_again_the_same_bits(self):
        many, one = training(FULL, "cl", seeds=(3, 8, 1)), training(FULL, "cl", seeds=(8,))
        among, alone, again = (simulate(each) for each in (many, one, one))
        assert alone.dataset.equals(again.dataset)
        agree(final(among).map(lambda block: block[1:2]), final(alone))
        assert (final(among).position_position[0] - final(among).position_position[1]).abs().max() > 0.1

    def test_cells_of_a_grid_have_the_bits_that_they_have_alone(self):
        cells = [training(FULL), training(replace(FULL, heads=1)), training(OneLayer())]
        for cell, run in zip(cells, simulate_grid(cells), strict=True):
            assert simulate(cell).dataset.equals(run.dataset)

    def test_float32_follows_float64(self):
        runs = [final(simulate(training(FULL, "cl", precision=each))) for each in ("float32", "float64")]
        assert runs[0].like.dtype is torch.float32
        agree(runs[0].map(torch.Tensor.double), runs[1], 1e-4)

    def test_json_gives_it_back(self):
        experiment = Experiment(name="deep", training=training(replace(FULL, key_dimension=4)))
        assert Experiment.from_json(experiment.to_json()) == experiment


@pytest.mark.parametrize(
    ("fields", "field", "remedy"),
    [
        ({"layers": 0}, "layers", "1 or more"),
        ({"heads": -1}, "heads", "1 or more"),
        ({"mlp": -8, "residual": True}, "mlp", "0 or more"),
        ({"mlp": 8}, "mlp", "residual=True"),
        ({"values": "vector"}, "values", "identity, scalar, matrix, projections"),
        ({"values": "projections"}, "key_dimension", "projections need it"),
        ({"value_scale": 0.5}, "value_scale", '"scalar" or "matrix"'),
        ({"positions": "keys"}, "positions", "logits, stream"),
        ({"residual": 1}, "residual", "True or False"),
        ({"temperature": 0.0}, "temperature", "(0, "),
        ({"initial_scale": -0.1}, "initial_scale", "[0, "),
        ({"heads": 3, "key_dimension": 16, "initial_scale": 0.1}, "key_dimension", "multiple of the 3 heads"),
        ({"key_dimension": 0}, "key_dimension", "1 or more"),
        ({"key_dimension": 16}, "initial_scale", "stay there"),
    ],
)
def test_fields_that_make_no_model_are_refused_in_a_line(fields, field, remedy, complaint):
    with complaint(field, remedy):
        Transformer(**fields)
