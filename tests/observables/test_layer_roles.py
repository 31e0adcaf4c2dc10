"""Layers of depth: what each is to a loss of mean outputs, by theory and by ablation (exact: float64 round-off)."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

import vitdyn as vd
from vitdyn.data import AreaSizes
from vitdyn.dynamics.gradient import forward_pass, loss_gradient
from vitdyn.observables import LAYER_ROLES, ModelState
from vitdyn.theory import contrast_rises, depth_drives

MAE, CL, UNIFORM = vd.MaskedReconstruction(), vd.Contrastive(), vd.Uniform()
LAYOUT = vd.PatchLayout.from_sizes([4, 2, 2])
ROUND_OFF = {"rtol": 1e-10, "atol": 1e-13}
FAR = 200.0
"""A correlation that leaves e^{−zφ} to other keys: less than round-off."""


class GlobalSquare(vd.Objective):
    """Minus the square of the global area's coordinate in the mean output."""

    name, family = "global-square", "contrastive"

    def loss(self, forward):
        return -forward.mean_outputs()[..., 0].square().mean(1)


def deep(layers, **fields):
    return vd.Transformer(layers=layers, **({"residual": True} | fields))


def state_of(model, objective, *, seeds=1, clusters=1, latents=UNIFORM, phi=0.0):
    """A state in float64: Q = 0 but for Φ to the first feature; each view shows half of every area."""
    generator = vd.PatchGenerator(
        layout=replace(LAYOUT, partition=LAYOUT.partition * clusters), latents=latents
    )
    batch = generator.sample(6, seeds=range(seeds))
    places = np.concatenate([np.flatnonzero(LAYOUT.area_of_patch[0] == area) for area in range(3)])
    views = []
    for first in range(objective.view_count):
        visible = torch.zeros(seeds, 6, 8, dtype=torch.bool)
        visible[..., places[first::2]] = True
        views.append(visible)
    parameters = model.initial(generator, vd.seeds.Streams(range(seeds), "model"), batch.latents)
    parameters.feature_position[..., 0] = phi
    forward = forward_pass(parameters, batch, tuple(views), {}, model=model)
    owners = ((generator, objective),) * seeds
    return ModelState(parameters, objective, forward, 0, None, owners, model)


def gradient_norms(state):
    found, _ = loss_gradient(
        state.parameters, state.objective, state.batch, state.views, {}, model=state.model
    )
    return torch.stack([block.square().flatten(2).sum(2) for block in found.named().values()]).sum(0).sqrt()


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_contrast_reaches_each_layer_by_the_gain_of_the_pooled_output(layers):
    """At τ = 4^L similarities at Q = 0 are those of the theory's layer, which averages the visible patches."""
    state = state_of(deep(layers), CL, seeds=2, clusters=2)
    norms = gradient_norms(state)
    drives = depth_drives(AreaSizes.of(LAYOUT), UNIFORM, "contrast", layers=layers, clusters=2)["global"]
    np.testing.assert_allclose(norms / norms[:, -1:], np.tile(drives / drives[-1], (2, 1)), **ROUND_OFF)
    shown = (state.batch.contents() * state.views[0][..., None]).mean(2)
    once, products = (each @ each.mT for each in (shown, state.forward.mean_outputs()))
    np.testing.assert_allclose(products / 4**layers, once, **ROUND_OFF)


def test_rises_are_those_of_the_theory_where_all_layers_attend_to_the_global_area():
    state = state_of(deep(3), GlobalSquare(), latents=vd.Constant(value=1.5), phi=FAR)
    for name, left_out in (("rise_of_uniform_layer", False), ("rise_without_layer", True)):
        found = LAYER_ROLES[name].of(state)[0] / 1.5**2
        np.testing.assert_allclose(found, contrast_rises(3, 2 / 8, left_out=left_out), **ROUND_OFF)


def test_masked_patches_hold_what_their_layers_bring_them():
    """At Q = 0 a layer adds the mean of all: own content as often as it is visible, once, three times, seven times."""
    found = LAYER_ROLES["restored_share"].of(state_of(deep(3), MAE, latents=vd.Constant(value=1.5)))
    np.testing.assert_allclose(found[0], np.array([1, 3, 7]) / 8, **ROUND_OFF)


def test_a_single_layer_is_not_left_out_and_no_layer_of_another_model(complaint):
    assert LAYER_ROLES["rise_without_layer"].of(state_of(deep(1), MAE)).isnan().all()
    state = state_of(deep(1), MAE)

    class Own(vd.Transformer):
        """A subclass may have parameters beside those of layers."""

    for model, role in product((vd.OneLayer(), Own()), ("rise_without_layer", "rise_of_uniform_layer")):
        with complaint("model", "must be a Transformer"):
            LAYER_ROLES[role].of(replace(state, model=model))


def test_a_teacher_keeps_the_layers_that_its_student_is_without():
    """A layer is left out, too, where its values are 0: the stream goes on as it was."""
    objective = vd.objectives.Data2Vec()
    state = state_of(deep(2, values="scalar"), objective, phi=0.7)
    carried = objective.initial_state(state.parameters, vd.seeds.Streams((0,), "objective"))
    state = replace(state, forward=replace(state.forward, state=carried))
    rises = LAYER_ROLES["rise_without_layer"].of(state)
    for layer in range(2):
        blocks = {name: block.clone() for name, block in state.parameters.named().items()}
        blocks["value"][:, layer] = 0.0
        given = state.parameters.rebuilt(blocks), state.batch, state.views, carried
        found = objective.loss(forward_pass(*given, model=state.model)) - objective.loss(state.forward)
        np.testing.assert_allclose(rises[:, layer], found, **ROUND_OFF)


@pytest.mark.parametrize("objective", [MAE, CL], ids=["mae", "cl"])
def test_without_a_residual_queries_stay_alike_and_later_layers_as_they_are(objective):
    generator = vd.PatchGenerator(layout=vd.PatchLayout.from_sizes([4, 2, 2], clusters=2))
    training = vd.Training(
        generator=generator, objective=objective, model=vd.Transformer(layers=3), steps=3, seeds=2,
        precision="float64", batch_size=8, evaluation_samples=8, observables=("loss",),
    )  # fmt: skip
    run = vd.simulate(training)
    for name in ("feature_position", "position_position"):
        block = run[f"final_{name}"].to_numpy()
        first, size = block[:, 0, 0], np.abs(block).max()
        assert size > 1e-3
        np.testing.assert_allclose(
            first, np.broadcast_to(first[:, :1], first.shape), rtol=0, atol=1e-12 * size
        )
        np.testing.assert_allclose(block[:, 1:], 0, atol=1e-12 * size)
