"""What a teacher takes back: the linear formula to round-off, its first order beyond it. Exact."""

from math import isnan

import numpy as np
import pytest
import torch

from vitdyn.landscape import teacher_correction
from vitdyn.theory import discounts, linear_correction


def test_a_linear_student_meets_the_formula_of_theory():
    draw = np.random.default_rng(0)
    residuals, inputs, weights = (
        draw.normal(size=(5, 3)),
        draw.normal(size=(5, 4)),
        discounts(np.full(5, 0.9)),
    )
    now, student = draw.normal(size=4), draw.normal(size=(3, 4))
    lag = -0.1 * np.einsum("j,jo,ji->oi", weights, residuals, inputs)
    at = ({"map": torch.from_numpy(each)} for each in (student, student - lag))
    found = teacher_correction(lambda given: given["map"] @ torch.from_numpy(now), *at)
    expected = linear_correction(residuals, inputs, weights, now, learning_rate=0.1)
    np.testing.assert_allclose(found.gradient.view(3, 4), expected, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(found.linear, found.gradient, rtol=1e-11, atol=1e-13)
    assert found.nonlinearity < 1e-12
    assert found.cosine == pytest.approx(
        float((expected * lag).sum() / np.linalg.norm(expected) / np.linalg.norm(lag))
    )
    assert found.strength == pytest.approx(float(np.linalg.norm(expected) / np.linalg.norm(lag)))


def test_beyond_linear_outputs_the_formula_is_of_first_order_in_the_lag():
    """Two layers: halving the lag halves the relative error; the gradient never points against the lag."""
    draw = torch.Generator().manual_seed(1)
    parts = {"first": (5, 4), "second": (3, 5)}
    student = {name: torch.randn(shape, generator=draw, dtype=torch.float64) for name, shape in parts.items()}
    way = {name: torch.randn(shape, generator=draw, dtype=torch.float64) for name, shape in parts.items()}
    x = torch.randn(4, 6, generator=draw, dtype=torch.float64)

    def found(lag, target=None):
        behind = {name: student[name] - lag * way[name] for name in parts}
        return teacher_correction(lambda at: at["second"] @ (at["first"] @ x).tanh(), student, behind, target)

    errors = [found(lag).nonlinearity for lag in (0.02, 0.01, 0.005)]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1) and errors[1] / errors[2] == pytest.approx(
        2, rel=0.05
    )
    near = found(1e-4)
    assert near.cosine > 0 and near.along == pytest.approx(near.cosine * near.strength)
    assert found(1e-4, torch.zeros(3, 6, dtype=torch.float64)).nonlinearity > 100
    assert isnan(found(0.0).cosine) and isnan(found(0.0).strength)
