"""The Hessian of the theory's layer (exact): by products, against the dense model in R^d; and what a run records."""

from dataclasses import replace
from math import nan
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vitdyn.cli import catalogue
from vitdyn.data import PatchGenerator, PatchLayout, Uniform, orthonormal_basis
from vitdyn.dynamics import Schedule, Training, simulate
from vitdyn.dynamics.gradient import forward_pass
from vitdyn.landscape import ConvergenceError, Hessian, dense
from vitdyn.models import Correlations, area_attention
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.observables import RECORD, ModelState, Observable
from vitdyn.observables import curvature as observed
from vitdyn.observables.loss_surface import loss_surface

SIZES = [[9, 4, 3], [5, 5, 6]]


@pytest.fixture
def make_unequal(rng):
    """Build a random model of areas of unequal sizes, of which one view hides a whole area."""

    def make(sizes, content=False):
        layout = PatchLayout.from_sizes(sizes, seed=3)
        batch = PatchGenerator(layout=layout, latents=Uniform(low=0.5, high=2.0)).sample(4, (7,))
        visible = torch.from_numpy(rng.random((2, 1, 4, layout.patches)) < 0.5)
        visible[0, 0, 0] &= batch.area[0, 0] != 1
        zeros = Correlations.zeros(layout, 1, content_queries=content)
        model = zeros.map(lambda block: torch.from_numpy(rng.standard_normal(block.shape)))
        basis = orthonormal_basis(layout, seed=5)
        return SimpleNamespace(batch=batch, views=(visible[0], visible[1]), correlations=model, basis=basis)

    return make


def state_of(problem, objective):
    forward = forward_pass(problem.correlations, problem.batch, problem.views, {})
    return ModelState(problem.correlations, objective, forward, 0, None, ((None, objective),))


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("clusters", [1, 2])
@pytest.mark.parametrize(
    "objective", [MaskedReconstruction(), Contrastive(temperature=0.2, weight_decay=0.1)]
)
def test_products_are_those_of_the_dense_model(
    make_unequal, dense_model, close, objective, clusters, content
):
    problem = make_unequal(SIZES[:clusters], content)
    surface = loss_surface(state_of(problem, objective))
    model = dense_model(problem, content=content)

    def loss(vector):
        blocks = {name: block[None] for name, block in surface.tensors(vector).items()}
        return model.loss(objective, Correlations(**blocks).to_matrix(problem.basis))[0]

    expected = torch.autograd.functional.hessian(loss, surface.point)
    close(dense(Hessian(surface)), expected, tolerance=1e-10)


def test_frozen_curvature_lacks_what_the_stopped_view_would_add(make_unequal, close):
    """The training field ∂₁L(θ, θ) has the derivative ∂₁₁L + ∂₁₂L, of which the frozen Hessian is the first."""
    problem = make_unequal([[4, 3, 2]])
    surface = loss_surface(state_of(problem, Contrastive(temperature=0.2)))

    def pooled(vector, view):
        blocks = {name: block[None] for name, block in surface.tensors(vector).items()}
        attention = area_attention(Correlations(**blocks), problem.batch, problem.views[view])
        return attention.mean(-1)[0] * problem.batch.latents[0]

    def loss(both):
        anchors, targets = pooled(both[0], 0), pooled(both[1], 1)
        return torch.nn.functional.cross_entropy(anchors @ targets.T / 0.2, torch.arange(len(anchors)))

    size = surface.dimension
    whole = torch.autograd.functional.hessian(loss, torch.stack([surface.point] * 2))
    frozen, mixed = whole[0, :, 0], whole[0, :, 1]
    close(dense(Hessian(surface)), frozen)
    moving = loss_surface(state_of(problem, Contrastive(temperature=0.2)), stopped="moving")
    close(dense(Hessian(moving)), whole.sum((0, 2)))
    step = 1e-4 * torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    field = (surface.moved(step).gradient() - surface.moved(-step).gradient()) / 2
    close(field, (frozen + mixed) @ step, tolerance=1e-6)
    # neither small nor symmetric: no function has the field as its gradient
    assert mixed.norm() > 0.1 * frozen.norm()
    assert (mixed - mixed.T).norm() > 0.1 * mixed.norm()


def test_a_run_records_the_curvature_of_each_seed():
    """By names, as the command line takes them; against the eigenvalues of the whole matrix."""
    matrices = []

    def keep(state):
        matrices.append(dense(Hessian(loss_surface(state))).numpy())
        return state.loss

    training = Training(
        generator=PatchGenerator(layout=PatchLayout.from_sizes([[4, 3, 2]], seed=3)),
        objective=Contrastive(),
        observables=(*RECORD, *observed.CURVATURE, Observable(name="keep", compute=keep)),
        steps=20,
        seeds=2,
        batch_size=8,
        precision="float64",
        schedule=Schedule(frames=2),
    )
    found = simulate(training)
    values = np.linalg.eigvalsh(np.array(matrices)).reshape(*found["loss"].shape, -1)
    for name, expected in {
        "highest_eigenvalue": values[..., -1],
        "lowest_eigenvalue": values[..., 0],
        "hessian_trace": values.sum(-1),
    }.items():
        scale = abs(values).max()
        np.testing.assert_allclose(found[name].to_numpy(), expected, atol=1e-10 * scale)
    assert {each.name for each in catalogue.metrics()} >= set(observed.CURVATURE)


def test_what_cannot_be_found_is_missing(make_unequal, monkeypatch):
    problem = make_unequal([[4, 3, 2]])
    state = state_of(problem, MaskedReconstruction())
    trace = observed.CURVATURE["hessian_trace"]
    assert trace.of(state).isfinite().all()

    def give_up(_):
        raise ConvergenceError

    monkeypatch.setitem(observed._CURVATURE, "hessian_trace", ("", "", give_up))
    assert trace.of(state).isnan().all()
    broken = replace(state, parameters=state.parameters.map(lambda block: torch.full_like(block, nan)))
    assert observed.CURVATURE["highest_eigenvalue"].of(broken).isnan().all()
