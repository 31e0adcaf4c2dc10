"""Optimizers against torch.optim on the same gradients (exact: float64 round-off)."""

import pytest
import torch

from vitdyn.dynamics import OPTIMIZERS, Adam, GradientDescent, Momentum, Optimizer, loss_gradient, simulate
from vitdyn.dynamics.batches import BatchSource
from vitdyn.models import Correlations

PAIRS = [
    (GradientDescent(learning_rate=0.3), torch.optim.SGD, {"lr": 0.3}),
    (Momentum(learning_rate=0.2, momentum=0.8), torch.optim.SGD, {"lr": 0.2, "momentum": 0.8}),
    (Momentum(learning_rate=0.2, momentum=0.0), torch.optim.SGD, {"lr": 0.2}),
    (Adam(learning_rate=0.1), torch.optim.Adam, {"lr": 0.1}),
    (
        Adam(learning_rate=0.1, beta1=0.7, beta2=0.95, epsilon=1e-3),
        torch.optim.Adam,
        {"lr": 0.1, "betas": (0.7, 0.95), "eps": 1e-3},
    ),
]
EVERY = pytest.mark.parametrize(("optimizer", "reference", "options"), PAIRS)


@EVERY
def test_equals_torch(optimizer, reference, options, rng, make_problem, close):
    model = make_problem(content=True).correlations
    leaves = model.map(lambda block: block.clone().requires_grad_())
    optimiser = reference(leaves.named().values(), **options)
    state = optimizer.init(model)
    for count in range(20):
        gradient = model.map(lambda block: torch.from_numpy(rng.standard_normal(block.shape)))
        kept = gradient.map(torch.clone)
        optimizer.step(model, gradient, state, count)
        for name, leaf in leaves.named().items():
            leaf.grad = kept.named()[name]
        optimiser.step()
        close(model, leaves.map(torch.detach), 1e-13)
        assert all(torch.equal(gradient.named()[name], block) for name, block in kept.named().items())


@EVERY
@pytest.mark.parametrize("objective", ["mae", "cl"])
def test_a_run_is_torch_on_the_gradients_of_its_batches(
    optimizer, reference, options, objective, make_training, close
):
    training = make_training(objective, optimizer=optimizer, seeds=(8,))
    source = BatchSource(
        training.generator,
        training.objective,
        (8,),
        training.batch_size,
        None,
        torch.float64,
        torch.device("cpu"),
    )
    leaves = Correlations.zeros(training.generator.layout, 1).map(torch.Tensor.requires_grad_)
    optimiser = reference(leaves.named().values(), **options)
    for step in range(training.steps):
        batch, views = source.training(step, None)
        gradient, _ = loss_gradient(leaves.map(torch.detach), training.objective, batch, views, {})
        for name, leaf in leaves.named().items():
            leaf.grad = gradient.named()[name].clone()
        optimiser.step()
    final = simulate(training)
    for name, leaf in leaves.named().items():
        close(torch.from_numpy(final[f"final_{name}"].to_numpy()), leaf.detach(), 1e-11)


def test_the_registry():
    assert list(OPTIMIZERS) == ["gradient", "momentum", "adam"]
    assert all(isinstance(kind(learning_rate=1.0), Optimizer) for kind in OPTIMIZERS.values())


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        *(
            (kind, "learning_rate", value)
            for kind in OPTIMIZERS.values()
            for value in (-1.0, 1e13, float("nan"), "1")
        ),
        *((Momentum, "momentum", value) for value in (-0.1, 1.0)),
        *((Adam, field, value) for field in ("beta1", "beta2") for value in (-0.1, 1.0, None)),
        *((Adam, "epsilon", value) for value in (0.0, -1e-8)),
    ],
)
def test_bad_fields_are_named(kind, field, value, complaint):
    with complaint(f"{kind.__name__}.{field}", "must be a number in"):
        kind(**{"learning_rate": 1.0} | {field: value})
