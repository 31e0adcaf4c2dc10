"""Every contender of the benchmarks takes the same gradient: ours, by the round-off of float32."""

import pytest
import torch
from contenders import contenders
from problems import Case, Problem

ONE_CLUSTER, THREE_CLUSTERS = (
    [
        Case(objective=objective, patches=patches, samples=6, seeds=2, clusters=clusters, areas=3)
        for objective in ("mae", "cl")
    ]
    for patches, clusters in ((18, 1), (23, 3))
)
PAIRS = [(name, case) for name in ("naive", "vmap", "eager") for case in ONE_CLUSTER + THREE_CLUSTERS]
PAIRS += [("jax", case) for case in THREE_CLUSTERS] + [("jax_factored", case) for case in ONE_CLUSTER]


def require_same_gradient(name, contender, found, truth):
    """Compare to 1e-5 of the largest entry: what a sum of some thousand float32 numbers keeps."""
    for block, value in contender.correlations(found).named().items():
        expected = truth.named()[block]
        allowed = {"rtol": 1e-4, "atol": 1e-5 * float(expected.abs().max())}
        torch.testing.assert_close(value, expected, **allowed, msg=lambda m: f"{name}: {m}")


@pytest.mark.parametrize(("name", "case"), PAIRS, ids=str)
def test_contender_takes_our_gradient(name, case, monkeypatch):
    if name.startswith("jax"):
        pytest.importorskip("jax")
        monkeypatch.setattr("in_jax.CACHED", 2 * case.patches**2)  # so that samples are mapped two by two
    problem = Problem.draw(case)
    contender = contenders()[name](problem)
    require_same_gradient(name, contender, contender.step(), contenders()["ours"](problem).step())


def test_a_seed_of_a_problem_is_that_seed():
    problem = Problem.draw(THREE_CLUSTERS[0])
    both, one = contenders()["ours"](problem).step(), contenders()["ours"](problem.seed(1)).step()
    for block, value in one.named().items():
        torch.testing.assert_close(value[0], both.named()[block][1], rtol=1e-5, atol=1e-6)
