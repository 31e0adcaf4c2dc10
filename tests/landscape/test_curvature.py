"""Curvature (exact): eigenvalues, trace and density of quadratics, by the whole matrix and by products; refusals."""

import re
import warnings
from threading import Event, Thread

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

import vitdyn as vd
from vitdyn.landscape import (
    Difference,
    GaussNewton,
    Hessian,
    Matrix,
    Surface,
    module_surface,
    spectral_density,
    squared_norm,
    top_eigenvalues,
    trace,
)
from vitdyn.landscape.operators import twice_differentiable

SMALL = [3.0, -2.0, 0.0, 3.0, 0.5, -2.0, 3.0]
# more than what is decomposed as a whole: multiplicities of 5, 4 and many
LARGE = [3.0] * 5 + [2.9] + [-2.0] * 4 + [0.25] * 100 + [0.0] * 500


def quadratic(d, scale=1.0, dtype=torch.float64):
    """½ Σ d_i (w_i − 1)² about 0, in two tensors of two shapes."""
    d = scale * torch.tensor(d, dtype=dtype)
    half = len(d) // 2
    parts = {"second": d[half:, None], "first": d[:half]}
    start = {name: torch.zeros_like(part) for name, part in parts.items()}
    return Surface(lambda at: sum((parts[each] * (at[each] - 1) ** 2).sum() / 2 for each in parts), start)


def rotated(d, rng, dtype=torch.float64):
    turn, _ = np.linalg.qr(rng.standard_normal((len(d), len(d))))
    return torch.from_numpy((turn * np.asarray(d)) @ turn.T).to(dtype)


def first_of(d, count, by):
    key = {"value": lambda x: -x, "lowest": lambda x: x, "magnitude": lambda x: -abs(x)}[by]
    return np.array(sorted(d, key=key)[:count])


@pytest.mark.parametrize("by", ["value", "lowest", "magnitude"])
@pytest.mark.parametrize("scale", [1.0, 1e-7, 1e9])
@pytest.mark.parametrize("d", [SMALL, LARGE], ids=["small", "large"])
def test_eigenvalues_of_quadratics_are_all_found_at_any_scale(d, scale, by):
    operator = Hessian(quadratic(d, scale))
    found = top_eigenvalues(operator, 7, by=by)
    expected = scale * first_of(d, 7, by)
    np.testing.assert_allclose(found.values, expected, atol=1e-10 * 3 * scale)
    gram = found.vectors @ found.vectors.T
    torch.testing.assert_close(gram, torch.eye(7, dtype=gram.dtype), atol=1e-10, rtol=0)
    for value, vector, residual in zip(*found, strict=True):
        assert (operator @ vector - value * vector).norm() <= residual + 1e-12 * scale
        assert residual <= 1e-4 * 3 * scale


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("by", ["value", "lowest", "magnitude"])
def test_eigenvalues_of_a_rotated_spectrum_without_gaps(rng, by, dtype):
    d = rng.standard_normal(600)
    found = top_eigenvalues(rotated(d, rng, dtype), 5, by=by)
    # second order in the residual, 1e-4 of the largest
    np.testing.assert_allclose(found.values, first_of(d, 5, by), atol=1e-6)
    assert found.vectors.dtype == dtype


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_an_end_that_is_small_beside_the_other_is_reached(rng, sign):
    """Vectors of the middle have residuals within the tolerance there, and were taken for the end."""
    values = sign * np.array([48.0, 20.0, 5.0, *(0.02 * abs(rng.standard_normal(1000))), -0.1])
    by = "lowest" if sign > 0 else "value"
    found = top_eigenvalues(Hessian(quadratic(values.tolist())), 1, by=by, tolerance=1e-3)
    assert found.values == pytest.approx(-0.1 * sign, abs=1e-3)


def test_an_end_within_the_other_is_left_alone_and_round_off_is_not_looked_for(rng):
    """Either was looked for until the rounds were at their end."""
    steep = -(rng.exponential(size=1100) ** 2)
    steep[:3] = 1e-3
    found = top_eigenvalues(Hessian(quadratic(steep.tolist())), 7, by="magnitude")
    np.testing.assert_allclose(found.values, np.sort(steep)[:7], rtol=1e-5)
    spike = torch.zeros(688, dtype=torch.float64)
    spike[5] = -1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for by in ("value", "magnitude", "lowest"):
            for seed in range(4):
                found = top_eigenvalues(Hessian(quadratic(spike.tolist())), 5, by=by, seed=seed)
                np.testing.assert_allclose(found.values, [-1.0 * (by != "value"), 0, 0, 0, 0], atol=1e-12)


@pytest.mark.parametrize("size", [7, 600])
def test_a_hessian_of_rank_one_or_none_is_no_breakdown(size):
    ones = torch.ones(size, dtype=torch.float64)
    for sign in (1, -1):
        rank_one = Matrix(sign * torch.outer(ones, ones))
        found = top_eigenvalues(rank_one, 3, by="magnitude")
        np.testing.assert_allclose(found.values, [sign * size, 0.0, 0.0], atol=1e-9)
        torch.testing.assert_close(found.vectors @ found.vectors.T, torch.eye(3).double())
    zero = Matrix(torch.zeros(size, size))
    assert np.array_equal(top_eigenvalues(zero, 3).values, np.zeros(3))
    assert trace(zero) == squared_norm(zero) == (0.0, 0.0)
    assert spectral_density(zero).mean(lambda x: x == 0) == (pytest.approx(1), pytest.approx(0, abs=1e-12))


def test_dimension_one():
    operator = Hessian(Surface(lambda at: -3 * at["w"].square().sum(), {"w": torch.ones(1)}))
    assert top_eigenvalues(operator, 1).values == [-6.0]
    assert trace(operator) == (-6.0, 0.0)
    assert spectral_density(operator).bounds == (-6.0, -6.0)


@pytest.mark.parametrize("scale", [1.0, 1e-7, 1e9])
@pytest.mark.parametrize("d", [SMALL, LARGE], ids=["small", "large"])
def test_traces_and_moments_of_diagonal_matrices_are_exact(d, scale):
    operator, d = Hessian(quadratic(d, scale)), scale * np.array(d)
    # with signs each draw is the trace of a diagonal matrix, and its quadrature that of the eigenvalues
    assert trace(operator) == (pytest.approx(d.sum(), rel=1e-12), pytest.approx(0, abs=1e-9 * scale))
    assert squared_norm(operator).value == pytest.approx((d**2).sum(), rel=1e-12)
    density = spectral_density(operator, draws=3)
    assert len(density.nodes) == (len(d) if len(d) < 512 else 3 * len(set(d)))  # no node beyond the breakdown
    for power in range(5):
        assert density.mean(lambda x, power=power: x**power).value == pytest.approx(
            (d**power).mean(), rel=1e-10
        )
    for value in set(d):
        assert density.mean(lambda x, value=value: abs(x - value) < 1e-9 * scale).value == pytest.approx(
            (d == value).mean(), rel=1e-8
        )


def test_estimates_say_how_far_off_they_are(rng):
    """Statistical: within five standard errors."""
    d = rng.uniform(-1, 3, 600)
    matrix = rotated(d, rng)
    density = spectral_density(matrix, draws=8, steps=30)
    for found, true in (
        (trace(matrix), d.sum()),
        (squared_norm(matrix), (d**2).sum()),
        (density.mean(lambda x: x), d.mean()),
        (density.mean(np.exp), np.exp(d).mean()),
    ):
        assert 0 < found.error < 0.1 * abs(true)
        assert abs(found.value - true) < 5 * found.error
    few, many = trace(matrix, relative_error=0.1), trace(matrix, relative_error=0.005)
    assert many.error < few.error <= 0.1 * few.value
    # a trace of 0 is never known to a part of itself: the draws end, and the error says it
    traceless = trace(matrix - float(d.mean()) * torch.eye(600), most_draws=20)
    assert abs(traceless.value) < 5 * traceless.error


@pytest.mark.parametrize("scale", [1e-7, 1.0, 1e5])
def test_a_smoothed_density_integrates_to_one_and_keeps_the_mean(rng, scale):
    matrix = scale * rotated(rng.uniform(-1, 3, 40), rng)
    density = spectral_density(matrix)
    widths = {"range": 1e-6, "pyhessian": 0.02, 0.1 * scale: 1e-6}
    for width, error in widths.items():
        at, found = density.smoothed(width=width)
        step = at[1] - at[0]
        assert found.sum() * step == pytest.approx(1, rel=1e-12)
        if width != "pyhessian" or scale == 1:
            assert (at * found).sum() * step == pytest.approx(density.mean(lambda x: x).value, rel=error)
    at, found = density.smoothed(width="pyhessian")
    assert len(at) == 10_000
    low, high = density.bounds
    assert (at[0], at[-1]) == (low - 0.01, high + 0.01)


@pytest.mark.parametrize("value", [0.0, 1e-7, -3.0])
def test_a_single_eigenvalue_is_a_peak_of_a_width(rng, value):
    at, found = spectral_density(rotated([value] * 9, rng)).smoothed()
    assert at[found.argmax()] == pytest.approx(value, abs=0.02 * (abs(value) or 1))
    assert found.sum() * (at[1] - at[0]) == pytest.approx(1)


def test_numbers_depend_on_the_seed_alone(rng):
    matrix = rotated(rng.uniform(-1, 3, 600), rng)
    state = torch.random.get_rng_state()
    for measure in (
        lambda seed: top_eigenvalues(matrix, 2, seed=seed).vectors.numpy(),
        lambda seed: np.array(trace(matrix, seed=seed, most_draws=16)),
        lambda seed: spectral_density(matrix, seed=seed, draws=1, steps=5).nodes,
    ):
        assert np.array_equal(measure(0), measure(0))
        assert not np.array_equal(measure(0), measure(1))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_eigenvalues_do_not_depend_on_the_order_of_parameters():
    weights = {name: torch.randn(3, 4, generator=torch.Generator().manual_seed(5)).double() for name in "ab"}
    found = [
        top_eigenvalues(Hessian(Surface(lambda at: (at["a"] * at["b"].sin()).exp().sum(), order)), 5).values
        for order in (weights, dict(reversed(weights.items())))
    ]
    np.testing.assert_allclose(*found, rtol=1e-12)


class Attention(torch.nn.Module):
    """A layer whose attention torch fuses."""

    def __init__(self, fused):
        super().__init__()
        self.joint, self.fused = torch.nn.Linear(8, 24, dtype=torch.float64), fused

    def forward(self, tokens):
        query, key, value = self.joint(tokens).chunk(3, -1)
        if self.fused:
            return scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])
        return (query @ key.mT * 8**-0.5).softmax(-1) @ value


def test_fused_attention_has_products_all_the_same(rng):
    tokens, found = torch.from_numpy(rng.standard_normal((2, 5, 8))), []
    for fused in (True, False):
        torch.manual_seed(1)
        surface = module_surface(Attention(fused), lambda module: module(tokens).square().sum())
        found.append(Hessian(surface) @ torch.linspace(-1, 1, surface.dimension, dtype=torch.float64))
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)


def test_the_choice_of_attention_is_what_it_was_when_the_last_thread_is_done():
    """Threads overlap: each waits for the other inside, and the one that came first leaves first."""
    entered, left, fused = Event(), Event(), torch.backends.cuda.flash_sdp_enabled
    before, inside = fused(), []

    def follow():
        with twice_differentiable():
            entered.set()
            left.wait(10)
            inside.append(fused())

    with twice_differentiable():
        second = Thread(target=follow)
        second.start()
        entered.wait(10)
    inside.append(fused())
    left.set()
    second.join()
    assert (before, inside, fused()) == (True, [False, False], True)


def test_gauss_newton_and_what_is_left_are_the_hessian(rng):
    inputs, targets = torch.from_numpy(rng.standard_normal((6, 3))), torch.tensor([0, 1, 2, 1, 0, 2])
    weights = {
        "in": torch.from_numpy(rng.standard_normal((4, 3))),
        "out": torch.from_numpy(rng.standard_normal((3, 4))),
    }

    def outputs(at):
        return (inputs @ at["in"].T).tanh() @ at["out"].T

    part = GaussNewton(outputs, lambda f: torch.nn.functional.cross_entropy(f, targets), weights)
    unit = torch.eye(part.dimension, dtype=torch.float64)
    found = torch.stack([part @ each for each in unit])

    def flat(vector):
        return outputs(part.surface.tensors(vector)).reshape(-1)

    jacobian = torch.autograd.functional.jacobian(flat, part.surface.point)
    inner = torch.autograd.functional.hessian(
        lambda f: torch.nn.functional.cross_entropy(f.view(6, 3), targets), flat(part.surface.point)
    )
    torch.testing.assert_close(found, jacobian.T @ inner @ jacobian, rtol=1e-10, atol=1e-12)
    whole = Hessian(part.surface)
    rest = Difference(whole, part)
    torch.testing.assert_close(rest @ unit[0] + part @ unit[0], whole @ unit[0])
    assert top_eigenvalues(part, 1, by="lowest").values[0] > -1e-12


class Once(torch.autograd.Function):
    """A square without a second derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        return 2 * slope * ctx.saved_tensors[0]


def once(loss):
    return trace(Hessian(Surface(lambda at: loss(Once.apply(at["w"])), {"w": torch.ones(2)})))


def squares(at):
    return Once.apply(at["w"])


def once_summed(outputs):
    return Once.apply(outputs).sum()


def weight_normalised():
    """A module whose second derivative is wrong in torch."""
    module, inputs = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 1)), torch.ones(3, 2)
    return module_surface(module, lambda each: each(inputs).square().mean())


def test_what_has_no_curvature_is_refused_in_one_line(rng):
    w = {"w": torch.ones(2)}
    bowl = Hessian(Surface(lambda at: at["w"].square().sum(), w))
    steep = Hessian(Surface(lambda at: at["w"].sqrt().sum(), {"w": torch.zeros(2)}))
    turned = torch.from_numpy(rng.standard_normal((600, 600)))
    gaps = rotated(rng.standard_normal(600), rng)
    twice = Surface(lambda at: at["w"].sum(), {**w, "v": torch.ones(1)})
    cases = [
        ("vector = 'not finite'", lambda: bowl @ torch.tensor([1.0, torch.nan])),
        ("vector = '(3,)", lambda: bowl @ torch.ones(3)),
        ("2 numbers in torch.float32 on cpu", lambda: bowl @ torch.ones(2).double()),
        ("count = 3: must be 2 or less", lambda: top_eigenvalues(bowl, 3)),
        ("must be symmetric", lambda: top_eigenvalues(turned, 1)),
        ("must be symmetric", lambda: trace(turned)),
        ("must be symmetric", lambda: spectral_density(turned)),
        ("must be symmetric", lambda: top_eigenvalues(turned[:9, :9], 1)),
        ("product with a finite vector", lambda: top_eigenvalues(steep, 1)),
        ("leave it out", lambda: top_eigenvalues(Hessian(twice), 1)),
        ("has no second derivative", lambda: once(lambda square: square.sum())),
        ("has no second derivative", lambda: once(lambda square: square.square().sum())),
        ("has no second derivative", lambda: trace(Hessian(weight_normalised()))),
        ("has no second derivative", lambda: trace(GaussNewton(squares, torch.sum, w))),
        ("has no second derivative", lambda: trace(GaussNewton(lambda at: at["w"], once_summed, w))),
        ("of 5 eigenvalues converged", lambda: top_eigenvalues(gaps, 5, tolerance=1e-15, rounds=1)),
        ("by = 'size'", lambda: top_eigenvalues(bowl, 1, by="size")),
        ("square matrix", lambda: trace(torch.ones(2, 3))),
        ("must be an Operator", lambda: trace(3)),
        ("further apart than the width", lambda: spectral_density(bowl).smoothed(width=1.0, points=2)),
        ("must have the dimension 2", lambda: Difference(bowl, Matrix(torch.eye(3)))),
    ]
    for words, make in cases:
        with pytest.raises(ValueError, match=re.escape(words)) as caught:
            make()
        assert "\n" not in str(caught.value)


def test_a_linear_loss_has_no_curvature_and_time_is_told_beforehand():
    flat = Hessian(Surface(lambda at: at["w"].sum(), {"w": torch.ones(3)}))
    assert torch.equal(flat @ torch.ones(3), torch.zeros(3))
    assert vd.landscape.seconds_of(flat, 1000) > 0
