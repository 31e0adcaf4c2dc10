"""Losses of clustering against transcriptions with loops, and at their edges (exact: round-off of float64)."""

from math import log

import pytest
import torch
import transcriptions as literal

from vitdyn import losses


@pytest.fixture
def views(rng):
    """Two views (lead, sample, dimension), and prototypes."""
    first, second = torch.from_numpy(rng.standard_normal((2, 3, 5, 4)))
    return first, second, torch.from_numpy(rng.standard_normal((3, 6, 4)))


def same(found, expected):
    torch.testing.assert_close(found, torch.stack(list(expected)), rtol=1e-12, atol=1e-13)


def each_lead(of, *arrays):
    return [of(*parts) for parts in zip(*arrays, strict=True)]


@pytest.mark.parametrize("epsilon", [0.05, 0.5])
@pytest.mark.parametrize("iterations", [1, 3])
def test_swav_and_its_codes(views, epsilon, iterations):
    codes = losses.sinkhorn(views[0], epsilon=epsilon, iterations=iterations)
    of_lead = each_lead(lambda rows: torch.stack(literal.sinkhorn(rows, epsilon, iterations)), views[0])
    same(codes, of_lead)
    found = losses.swav(*views, temperature=0.2, epsilon=epsilon, iterations=iterations)
    same(found, each_lead(lambda *at: literal.swav(*at, 0.2, epsilon, iterations), *views))


@pytest.mark.parametrize("convention", ["code", "paper"])
def test_msn(views, convention):
    kept = {"temperature": 0.3, "sharpening": 0.4, "weight": 1.7}
    found = losses.msn(*views, **kept, convention=convention)
    same(found, each_lead(lambda *at: literal.msn(*at, 0.3, 0.4, 1.7, convention == "code"), *views))
    columns = {name: torch.full((3, 1, 1), value, dtype=torch.float64) for name, value in kept.items()}
    torch.testing.assert_close(losses.msn(*views, **columns, convention=convention), found)


def test_deepcluster(views):
    first, _, centroids = views
    assignment = losses.nearest(first, centroids)
    assert assignment.tolist() == each_lead(literal.nearest, first, centroids)
    found = losses.deepcluster(first, centroids, assignment, temperature=0.2)
    same(found, each_lead(lambda *at: literal.deepcluster(*at, 0.2), first, centroids, assignment.tolist()))


def test_k_means_moves_as_lloyd_says_and_leaves_empty_clusters(views, rng):
    vectors = torch.from_numpy(rng.standard_normal((3, 40, 4)))
    lonely = views[2].clone()
    lonely[:, 2] = 0  # a centroid of length 0 has the cosine 0: near none that has a better one
    for start, steps in ((views[2], 1), (views[2], 4), (views[2], 10)):
        found = losses.spherical_k_means(vectors, start, iterations=steps)
        same(found, each_lead(lambda *at: torch.stack(literal.k_means(*at, steps)), vectors, start))  # noqa: B023
    few = losses.spherical_k_means(vectors[:, :1], views[2], iterations=3)
    own = losses.nearest(vectors[:, :1], views[2])[:, 0]
    for lead in range(3):
        for k in range(6):
            source = vectors[lead, 0] if k == own[lead] else views[2][lead, k]
            torch.testing.assert_close(few[lead, k], literal.unit(source))


def test_gradients_reach_embeddings_and_prototypes_and_no_code(views):
    leaves = [part.clone().requires_grad_() for part in views]
    found = torch.autograd.grad(losses.swav(*leaves).sum(), leaves)
    again = [part.clone().requires_grad_() for part in views]
    by_loops = each_lead(lambda *at: literal.swav(*at, 0.1, 0.05, 3), *again)
    for one, other in zip(found, torch.autograd.grad(sum(by_loops), again), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    targets = leaves[1]
    assert torch.autograd.grad(losses.msn(*leaves).sum(), targets, allow_unused=True) == (None,)


class TestEdges:
    def test_codes_of_small_epsilon_and_of_equal_samples(self, views):
        sharp = losses.sinkhorn(1e3 * views[0], epsilon=1e-6, iterations=50)
        assert sharp.isfinite().all()
        torch.testing.assert_close(sharp.sum(-1), torch.ones(3, 5).double())
        equal = losses.sinkhorn(views[0][:, :1].expand(-1, 5, -1), epsilon=0.01, iterations=2)
        torch.testing.assert_close(equal, torch.full_like(equal, 1 / 4))

    def test_codes_balance_clusters(self, views):
        codes = losses.sinkhorn(views[0], epsilon=0.5, iterations=200)
        torch.testing.assert_close(codes.sum(-2), torch.full((3, 4), 5 / 4).double())

    def test_the_regulariser_is_least_where_clusters_are_even(self):
        even = torch.eye(4).double()
        kept = {"temperature": 1e-3, "weight": 1.0}
        assert float(losses.msn(even, even, even, **kept)) < 1e-12
        one = even[:1].expand(4, -1)
        assert float(losses.msn(one, one, even, **kept)) == pytest.approx(log(4))
        assert float(losses.msn(one, one, even, **kept, convention="paper")) == pytest.approx(0)

    def test_a_vector_of_length_0_is_in_no_cluster(self, views):
        zero = torch.zeros_like(views[0]).requires_grad_()
        for loss in (losses.swav(zero, views[1], views[2]), losses.msn(zero, views[1], views[2], weight=0.0)):
            (slope,) = torch.autograd.grad(loss.sum(), zero)
            assert loss.isfinite().all() and slope.isfinite().all()

    def test_complaints(self, views, complaint):
        for field, call in (
            ("temperature", lambda: losses.swav(*views, temperature=0.0)),
            ("epsilon", lambda: losses.swav(*views, epsilon=-1.0)),
            ("iterations", lambda: losses.sinkhorn(views[0], iterations=0)),
            ("sharpening", lambda: losses.msn(*views, sharpening=0.0)),
            ("convention", lambda: losses.msn(*views, convention="theirs")),
            ("temperature", lambda: losses.deepcluster(views[0], views[2], None, temperature=0)),
            ("second", lambda: losses.swav(views[0], views[1][:, :2], views[2])),
        ):
            with complaint(field):
                call()
