"""Convexity and sharpness (exact): quadratics and double wells by formulas, invariance under rescaling, refusals."""

import numpy as np
import pytest
import torch

from vitdyn.landscape import (
    Section,
    Surface,
    convex_radius,
    convex_share,
    first_inflection,
    gaussian_direction,
    normalised,
    section,
    sharpness,
)


def wells(at, **options):
    """Return Σ w⁴ − w², two wells for each number, convex where |w| > 1/√6."""
    point = torch.tensor(at, dtype=torch.float64)
    return Surface(lambda at: at["w"].pow(4).sum() - at["w"].square().sum(), {"w": point}, **options)


AXES = list(torch.eye(2, dtype=torch.float64))


@pytest.mark.parametrize(
    "d, epsilon, share",
    [
        ([2.0, 2.0], 0.0, 1),
        ([2.0, 0.0], 0.0, 1),
        ([2.0, -1.0], 0.4, 0),
        ([2.0, -1.0], 0.6, 1),
        ([-1.0, -1.0], 0.9, 0),
        ([1.0, -2.0], 0.9, 0),
    ],
)
@pytest.mark.parametrize("source", ["exact", "differences"])
def test_a_quadratic_is_convex_everywhere_or_nowhere(quadratic, d, epsilon, share, source):
    grid = ([-1.0, -0.25, 0.5, 2.0], [-2.0, 0.0, 0.5])  # powers of 2: differences have no round-off
    found = section(quadratic(d, 0.5), AXES, grid, derivatives=True)
    assert convex_share(found, epsilon=epsilon, source=source) == share


def test_the_share_of_a_double_well_is_that_of_its_squares():
    grid = np.linspace(-1, 1, 17)
    found = section(wells([0.0, 0.0]), AXES, grid, derivatives=True)
    inner = 0.4375  # half-way between the last point that is concave, 0.375, and the first that is convex
    assert convex_share(found, epsilon=0) == pytest.approx((1 - inner) ** 2, rel=1e-12)
    # differences: w⁴ has the second difference 12 w² + 2 h², and there is no border
    inside = ((1 - 0.0625 - inner) / (1 - 0.0625)) ** 2
    assert convex_share(found, epsilon=0, source="differences") == pytest.approx(inside, rel=1e-12)
    plain = section(wells([0.0, 0.0]), AXES, grid)
    assert convex_share(plain, epsilon=0) == convex_share(found, epsilon=0, source="differences")
    assert convex_share(found, epsilon=0.1) > convex_share(found, epsilon=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_round_off_of_a_plane_is_no_curvature(dtype):
    slopes = torch.tensor([[0.3, -0.7]], dtype=dtype)
    surface = Surface(lambda at: 40 + (at["w"] * slopes).sum().exp().log(), {"w": 0 * slopes})
    found = section(surface, list(torch.eye(2)), np.linspace(-1, 1, 21), derivatives=True)
    second = np.diff(found["loss"], 2, axis=0)
    assert (second < 0).any()  # of the values, which are of a plane
    for source in ("exact", "differences"):
        assert convex_share(found, epsilon=0, source=source) == 1
    for axis in torch.eye(2):
        assert convex_radius(surface, axis, epsilon=0) == (1.0, True) == first_inflection(surface, axis)


def test_a_point_that_is_not_finite_is_not_convex(quadratic):
    found = section(quadratic([1.0, 1.0]), AXES, range(5), derivatives=True).dataset.copy(deep=True)
    found["curvature"][0, 0] = np.nan
    found["loss"][2, 2] = np.inf
    assert convex_share(Section(found)) == 1 - 1 / 64 - 1 / 16
    assert convex_share(Section(found), source="differences") == 0


@pytest.mark.filterwarnings("ignore:.*not finite:RuntimeWarning")
def test_a_loss_that_is_not_finite_is_not_convex_whatever_its_curvature():
    """log has a curvature at −1 all the same, and a norm none at 0."""
    barrier = Surface(lambda at: -at["w"].log().sum(), {"w": torch.ones(2, dtype=torch.float64)})
    found = section(barrier, AXES, [-3.0, -2.0, 0.0, 2.0, 3.0], derivatives=True)
    assert convex_share(found) == pytest.approx((4 / 6) ** 2)
    for search in (convex_radius, first_inflection):
        assert search(barrier, -AXES[0], limit=4.0).value == pytest.approx(1, abs=4e-6)
        tip = Surface(lambda at: at["w"].norm(), {"w": torch.zeros(2, dtype=torch.float64)})
        assert search(tip, AXES[0]) == (0.0, False)
    # flat up to where it ends
    cliff = Surface(lambda at: at["w"].sum() + 0 * (at["w"][0] - 0.3).log(), {"w": torch.ones(2).double()})
    assert first_inflection(cliff, -AXES[0]).value == pytest.approx(0.7, abs=2e-6)


@pytest.mark.parametrize(
    "d, radius", [([2.0, -1.0], 3.0), ([-1.0, 2.0], 0.0), ([0.0, 3.0], 3.0), ([-2.0, -2.0], 0.0)]
)
def test_a_quadratic_has_the_curvature_that_it_has_at_once(quadratic, d, radius):
    surface = quadratic(d, 0.3)
    assert convex_radius(surface, AXES[0], limit=3.0, points=4) == (radius, radius > 0)
    assert first_inflection(surface, AXES[0], limit=3.0, points=4) == (3.0, True)


def test_inflections_of_a_double_well_are_where_they_are():
    edge, along = 6**-0.5, torch.tensor([-0.5, 0.0], dtype=torch.float64)
    bottom = wells([0.5**0.5, 0.5**0.5])
    for found in (convex_radius(bottom, along, epsilon=0), first_inflection(bottom, along)):
        assert found.value == pytest.approx((0.5**0.5 - edge) / 0.5, abs=2e-6) and not found.at_least
    # 12 w² − 2 falls to −ε of its largest value, 4, which it has at the start
    slack = convex_radius(bottom, along, epsilon=0.1, limit=2.0)
    assert slack.value == pytest.approx((0.5**0.5 - ((2 - 0.4) / 12) ** 0.5) / 0.5, abs=4e-6)
    top = wells([0.0, 0.0])
    assert convex_radius(top, along) == (0.0, False)
    assert first_inflection(top, along).value == pytest.approx(edge / 0.5, abs=2e-6)
    assert first_inflection(top, along, limit=0.5) == (0.5, True)
    # flat at the start, and of one sign from there on: what is 0 has no sign
    quartic = Surface(lambda at: at["w"].pow(4).sum(), {"w": torch.zeros(2, dtype=torch.float64)})
    assert first_inflection(quartic, along) == (1.0, True) == convex_radius(quartic, along)


def test_distances_in_normalised_directions_do_not_change_with_scale(perceptron):
    def distances(scale, by=None):
        surface = perceptron(scale)
        down, drawn = -surface.gradient(), gaussian_direction(surface, 1)
        found = [normalised(surface, each, "layer") if by else each for each in (down, drawn)]
        return [convex_radius(surface, each, limit=4.0, points=16, epsilon=0.1).value for each in found] + [
            first_inflection(surface, each, limit=4.0, points=16).value for each in found
        ]

    first = distances(1.0, "layer")
    assert min(first) > 0 and len(set(first)) > 2
    np.testing.assert_allclose(distances(4.0, "layer"), first, atol=1e-5)
    assert not np.allclose(distances(4.0), distances(1.0), rtol=0.01)


def test_the_worst_rise_of_a_quadratic_is_that_of_its_top_eigenvector(quadratic):
    d = [3.0, -1.0, 3.0, 0.5]
    found = sharpness(quadratic(d), 0.2, ball="absolute", steps=60)
    # the gradient is 0 at the minimum: a first-order step does not move
    assert found.first_order == 0
    assert found.value == pytest.approx(3.0 * 0.2**2 / 2, rel=1e-6)
    assert float(found.displacement.norm()) == pytest.approx(0.2)
    away = quadratic(d, 0.5)
    gradient = 0.5 * np.array(d)
    step = 0.2 * gradient / np.linalg.norm(gradient)
    first = sharpness(away, 0.2, ball="absolute").first_order
    assert first == pytest.approx(gradient @ step + step * d @ step / 2, rel=1e-12)
    # w = 2: the ball |δ / w| is twice as large; w = 0: it has no extent
    assert sharpness(quadratic(d, 1.0), 0.1, ball="weight").value == pytest.approx(
        sharpness(quadratic(d, 1.0), 0.2, ball="absolute").value, rel=1e-9
    )
    # the box |δ| ≤ ρ (|w| + 1), with L = 0 at w = 1: its corners, but for what is concave
    assert sharpness(quadratic(d), 0.1, ball="keskar", steps=200, starts=8).value == pytest.approx(
        100 * 0.02 * (3 + 3 + 0.5), rel=1e-6
    )


def test_the_worst_rise_near_a_maximum_is_not_negative(quadratic):
    found = sharpness(quadratic([-1.0, -1.0], 0.01), 1.0, ball="absolute", steps=0)
    assert found.value >= 0 > found.first_order


@pytest.mark.parametrize("ball", ["filter", "weight", "absolute"])
def test_relative_balls_do_not_change_with_scale(perceptron, ball):
    one, scaled = (sharpness(perceptron(scale), 0.1, ball=ball) for scale in (1.0, 7.0))
    same = np.isclose(one.value, scaled.value, rtol=1e-8) and np.isclose(one.first_order, scaled.first_order)
    assert same == (ball != "absolute")
    assert one.value >= one.first_order > 0
    # a factor to each hidden unit: filters of the second layer are no longer those of the first's
    units = sharpness(perceptron([1.0, 2.0, 3.0, 4.0, 5.0]), 0.1, ball=ball)
    assert np.isclose(units.first_order, one.first_order, rtol=1e-8) == (ball == "weight")


def test_a_loss_without_second_derivatives_is_refused(complaint):
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.square()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, cotangent):
            return 2 * ctx.saved_tensors[0] * cotangent

    surface = Surface(lambda at: Square.apply(at["w"]).sum(), {"w": torch.ones(2)})
    with complaint("loss", "has no second derivative"):
        convex_radius(surface, torch.ones(2))


def test_what_has_no_convexity_or_sharpness_is_refused_in_one_line(quadratic, complaint):
    surface = quadratic([1.0, 2.0])
    with complaint("section", "two directions"):
        convex_share(section(surface, AXES[:1], range(4)))
    with complaint("section", "three points"):
        convex_share(section(surface, AXES, range(2)))
    with complaint("source", "must be one of"):
        convex_share(section(surface, AXES, range(3)), source="values")
    with complaint("variable", "this section has"):
        convex_share(section(surface, AXES, range(3)), source="exact")
    with complaint("epsilon", "[0, 1)"):
        convex_radius(surface, AXES[0], epsilon=1.0)
    with complaint("directions[0], parameter 'w'", "finite"):
        first_inflection(surface, AXES[0] * torch.nan)
    with complaint("ball", "ball='absolute'"):
        sharpness(quadratic([1.0], -1.0), 0.1, ball="weight")
    with complaint("ball", "divides by 1 + L = -1"):
        sharpness(Surface(lambda at: at["w"].sum() - 2, {"w": torch.zeros(2)}), 0.1, ball="keskar")
    with complaint("radius", "(0, inf)"):
        sharpness(surface, 0.0)
