"""Surfaces whose landscape is known."""

import pytest
import torch

from vitdyn.landscape import Surface


@pytest.fixture(scope="session")
def quadratic():
    """Make ½ Σ d_i (w_i − 1)² about w = 1 + ``away``."""

    def make(d, away=0.0):
        d = torch.tensor(d, dtype=torch.float64)
        return Surface(lambda at: ((at["w"] - 1).square() @ d) / 2, {"w": torch.full_like(d, 1.0 + away)})

    return make


@pytest.fixture(scope="session")
def perceptron():
    """Make the loss of a perceptron with one hidden layer of ReLUs, whose layers are scaled by a and 1/a."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 3, generator=draw).double(), torch.randn(20, 2, generator=draw).double()
    first = torch.randn(5, 3, generator=draw).double(), torch.randn(5, generator=draw).double()
    second = torch.randn(2, 5, generator=draw).double()

    def loss(at):
        hidden = torch.relu(x @ at["first"].T + at["bias"])
        return (hidden @ at["second"].T - y).square().mean()

    def make(a):
        a = torch.as_tensor(a, dtype=torch.float64).expand(5)
        return Surface(loss, {"first": first[0] * a[:, None], "bias": first[1] * a, "second": second / a})

    return make
