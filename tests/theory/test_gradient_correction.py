"""RC-MAE's correction of a linear student: the formulas against literal steps, the rates against literal trainings.

Exact: float64 round-off; the variance of the noise is the solution of its own recursion.
"""

import numpy as np
import pytest

from vitdyn.theory import discounts, error_factor, largest_stable_step, linear_correction, noise_ratio


def test_the_formulas_are_derived():
    pytest.importorskip("sympy")
    from vitdyn.theory.derivations import gradient_correction as derived

    assert derived.lag_holds() and derived.correction_holds() and derived.braking_holds()
    values = {derived.MOMENTUM: 0.97, derived.WEIGHT: 0.7}
    assert largest_stable_step(0.97, 0.7) == pytest.approx(float(derived.largest_stable_step().subs(values)))
    expected = float(derived.noise_ratio().subs({**values, derived.STEP: 0.2}))
    assert noise_ratio(0.2, 0.97, 0.7) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("order", ["after", "before"])
def test_the_correction_is_the_discounted_past_weighted_by_the_inputs(seed, order):
    """A linear student of random shape, trained by both terms; its teacher's momentum is another one at each step."""
    draw = np.random.default_rng(seed)
    outputs, inputs, steps = draw.integers(1, 6, 3) + np.array([0, 0, 6])
    student = draw.normal(size=(outputs, inputs))
    teacher, rate, weight = student.copy(), 0.07, draw.uniform(0.5, 2)
    momenta, seen, residuals = draw.uniform(0.3, 1.0, steps), draw.normal(size=(steps, inputs)), []
    for x, momentum in zip(seen, momenta, strict=True):
        # ∇(½‖S x − y‖² + γ ½‖S x − sg T x‖²) = r xᵀ
        residual = student @ x - draw.normal(size=outputs) + weight * (student - teacher) @ x
        residuals.append(residual)
        before, student = student, student - rate * np.outer(residual, x)
        teacher = momentum * teacher + (1 - momentum) * (student if order == "after" else before)
        weights = discounts(momenta[: len(residuals)], order=order)
        past = np.einsum("j,jo,ji->oi", weights, residuals, seen[: len(residuals)])
        np.testing.assert_allclose(student - teacher, -rate * past, rtol=1e-11, atol=1e-13)
        now = draw.normal(size=inputs)
        found = linear_correction(
            np.array(residuals), seen[: len(residuals)], weights, now, learning_rate=rate
        )
        np.testing.assert_allclose(found, np.outer((student - teacher) @ now, now), rtol=1e-10, atol=1e-13)
    # an input that is orthogonal to all before meets no correction
    lonely = np.append(np.zeros(inputs), 1.0)
    longer = np.hstack([seen, np.zeros((steps, 1))])
    assert not linear_correction(np.array(residuals), longer, weights, lonely, learning_rate=rate).any()


@pytest.mark.parametrize(("step", "momentum", "weight"), [(0.1, 0.99, 1.0), (0.6, 0.9, 2.0), (1.1, 0.5, 0.5)])
def test_it_brakes_and_calms(step, momentum, weight):
    """Along one direction: literal steps, and the recursion of the variance under white noise."""
    moved = np.array([1 - step, -step * weight])
    once = np.array([moved, momentum * (moved - [1, 0] + [0, 1])])
    far = np.linalg.matrix_power(once, 400)
    grown = np.linalg.norm(far @ once) / np.linalg.norm(far)
    assert grown == pytest.approx(error_factor(step, momentum, weight)) and grown > abs(1 - step)
    kick, variance = np.outer([1, momentum], [1, momentum]), np.zeros((2, 2))
    for _ in range(6000):
        variance = once @ variance @ once.T + kick
    assert variance[0, 0] * step * (2 - step) == pytest.approx(noise_ratio(step, momentum, weight))


def test_limits():
    assert error_factor(largest_stable_step(0.9, 3.0), 0.9, 3.0) == pytest.approx(1)
    assert largest_stable_step(0.0, 5.0) == 2 and noise_ratio(0.3, 0.0, 5.0) == pytest.approx(1)
    assert noise_ratio(1e-3, 1 - 1e-7, 3.0) == pytest.approx(1 / 4, rel=2e-3)
    np.testing.assert_allclose(discounts(np.full(3, 0.9)), [0.729, 0.81, 0.9])
    np.testing.assert_allclose(discounts(np.full(3, 0.9), order="before"), [0.81, 0.9, 1.0])


def test_complaints(complaint):
    for field, call in (
        ("order", lambda: discounts([0.9], order="then")),
        ("momenta", lambda: discounts([1.1])),
        ("momentum", lambda: error_factor(0.1, 1.1)),
        ("weight", lambda: largest_stable_step(0.9, -1.0)),
        ("step", lambda: noise_ratio(1.5, 0.99)),
        ("residuals", lambda: linear_correction([1.0], [[1.0]], [1.0], [1.0], learning_rate=0.1)),
        ("inputs", lambda: linear_correction([[1.0]], [[1.0, 2.0]], [1.0], [1.0], learning_rate=0.1)),
        ("weights", lambda: linear_correction([[1.0]], [[1.0]], [1.0, 2.0], [1.0], learning_rate=0.1)),
    ):
        with complaint(field):
            call()
