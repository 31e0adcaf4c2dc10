"""Directions (exact): each convention on a case written out by hand, a trajectory's axes, what is refused."""

import numpy as np
import pytest
import torch

from vitdyn.landscape import (
    Surface,
    gaussian_direction,
    normalised,
    orthogonalised,
    principal_directions,
    projected,
)


def flat(parameters):
    """Return a loss that nobody looks at, about these parameters."""
    tensors = {name: torch.tensor(value, dtype=torch.float64) for name, value in parameters.items()}
    return Surface(lambda at: sum(each.sum() for each in at.values()), tensors)


WEIGHTS = flat({"w": [[3.0, 4.0], [0.0, 2.0]], "b": [2.0, 1.0], "token": [[[1.0, -2.0]]]})
DIRECTION = torch.tensor([6.0, 8.0, 1.0, 0.0, 3.0, 4.0, 3.0, -4.0], dtype=torch.float64)


@pytest.mark.parametrize(
    "by, w, token",
    [
        # filters [6 8] -> length 5 and [1 0] -> 2; the token is one filter, of length 5 in w and in d
        ("goldstein", [3.0, 4.0, 2.0, 0.0], np.array([3.0, -4.0]) / 5**0.5),
        # columns [6 1] -> 3 and [8 0] -> √20; each of the token's numbers has the size of the weight
        ("how-do-vits-work", [18 / 37**0.5, 20**0.5, 3 / 37**0.5, 0.0], [1.0, -2.0]),
        # ‖w‖² = 29, ‖d‖² = 101
        ("layer", np.array([6.0, 8.0, 1.0, 0.0]) * (29 / 101) ** 0.5, np.array([3.0, -4.0]) / 5**0.5),
    ],
)
@pytest.mark.parametrize(
    "one_dimensional, b", [("zero", [0, 0]), ("weight", [2, 1]), ("scaled", np.array([3.0, 4.0]) / 5**0.5)]
)
def test_filters_get_the_length_of_the_weights_filters(by, w, token, one_dimensional, b):
    found = normalised(WEIGHTS, DIRECTION, by, one_dimensional=one_dimensional)
    np.testing.assert_allclose(found, [*w, *b, *token], rtol=1e-14)


def test_a_filter_where_the_direction_is_zero_stays_zero():
    direction = DIRECTION * torch.tensor([0, 0, 1, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(normalised(WEIGHTS, direction)[:4], [0, 0, 2, 0])
    surface = flat({"w": [[0.0, 0.0], [3.0, 4.0]]})
    np.testing.assert_allclose(normalised(surface, torch.tensor([0.0, 0, 1, 0])), [0, 0, 5, 0])


def test_a_tensor_draws_the_same_whatever_others_there_are():
    alone, other = flat({"w": [[0.0] * 3] * 2}), flat({"v": [1.0], "w": [[0.0] * 3] * 2})
    drawn = gaussian_direction(other, 4)
    assert torch.equal(other.tensors(drawn)["w"].flatten(), gaussian_direction(alone, 4))
    assert not torch.equal(gaussian_direction(other, 5), drawn)
    many = gaussian_direction(flat({"w": [0.0] * 4000}), 0)
    assert abs(float(many.mean())) < 5 / 4000**0.5 and abs(float(many.var()) - 1) < 5 * (2 / 4000) ** 0.5


def test_principal_directions_are_those_of_the_covariance(rng):
    points = torch.from_numpy(rng.standard_normal((7, 4)) * [5, 2, 1, 0.1] + 3)
    found = principal_directions(points, 3)
    values, vectors = np.linalg.eigh(np.cov(points.numpy().T))
    np.testing.assert_allclose(found.shares, values[::-1][:3] / values.sum(), rtol=1e-12)
    np.testing.assert_allclose(np.abs(found.directions @ vectors[:, ::-1]), np.eye(4)[:3], atol=1e-12)
    about = principal_directions(points, 1, centred=False).directions[0]
    rows = points - points[-1]
    top = torch.linalg.eigh(rows.T @ rows).eigenvectors[:, -1]
    assert float((about @ top).abs()) == pytest.approx(1, abs=1e-12)
    assert about.abs().max() == about.max()
    assert torch.equal(principal_directions(list(points), 3).directions, found.directions)


def test_orthogonalised_directions_keep_their_lengths_and_what_they_span(rng):
    directions = torch.from_numpy(rng.standard_normal((3, 6)))
    directions[1] = directions[0] + 1e-9 * directions[1]  # nearly parallel
    found = orthogonalised(directions)
    lengths = directions.norm(dim=1)
    np.testing.assert_allclose(found @ found.T, np.diag(lengths.square()), atol=1e-12)
    assert torch.linalg.matrix_rank(torch.cat([found, directions]), rtol=1e-12) == 3


def test_points_are_projected_in_the_units_that_are_said():
    surface = flat({"w": [1.0, 1.0, 1.0]})
    axes = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0]], dtype=torch.float64)
    point = torch.tensor(
        [[1.0 + 4 + 3, 1.0 + 3, 1.0 + 9]], dtype=torch.float64
    )  # 2 d_1 + 3 d_2 and off the plane
    np.testing.assert_allclose(projected(point, surface, axes), [[2, 3]], rtol=1e-14)
    np.testing.assert_allclose(projected(point, surface, axes, "orthogonal"), [[14 / 4, 10 / 2]])
    np.testing.assert_allclose(projected(point, surface, axes, "cosine"), [[14 / 2, 10 / 2**0.5]])


def test_what_is_no_direction_is_refused_in_one_line(complaint):
    broken = DIRECTION.clone()
    broken[3] = torch.nan
    with complaint("direction, parameter 'w', filter 1", "must be finite"):
        normalised(WEIGHTS, broken)
    surface = flat({"w": [[1.0, 0.0], [0.0, 0.0]], "b": [0.0, 0.0]})
    for by, words in (("goldstein", "['w'], filter 1"), ("how-do-vits-work", "['w'], filter 1")):
        with complaint(f"parameters{words}", "take the direction as it is"):
            normalised(surface, torch.ones(6), by)
    with complaint("parameters['b']", "or make it 0 there"):
        normalised(surface, torch.ones(6), "layer", one_dimensional="scaled")
    normalised(surface, torch.ones(6), "layer")  # a bias of 0 is asked for no length
    with complaint("count", "the points span 1 directions"):
        principal_directions(torch.tensor([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]), 2)
    with complaint("directions[1]", "independent"):
        orthogonalised(torch.tensor([[1.0, 2.0], [2.0, 4.0]]))
    with complaint("points[0]", "finite"):
        projected([broken], WEIGHTS, [DIRECTION])
    with complaint("by", "must be one of"):
        normalised(WEIGHTS, DIRECTION, "filter")
