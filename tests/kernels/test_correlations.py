"""The four blocks of Q and the matrix they stand for (exact: float64 round-off)."""

import pytest
import torch

from vitdyn.data import orthonormal_basis
from vitdyn.models import Correlations

CASES = pytest.mark.parametrize("case", range(5))
EXTRA = pytest.mark.parametrize("extra", [0, 1, 17])
CONTENT = pytest.mark.parametrize("content", [False, True], ids=["positions", "content"])


def basis_of(layout, extra):
    least = int((layout.sizes > 0).sum()) + layout.patches
    return orthonormal_basis(layout, dimension=least + extra, seed=3)


@CASES
@EXTRA
@CONTENT
def test_from_correlations_to_the_matrix_and_back(case, extra, content, make_problem, close):
    problem = make_problem(content=content)
    basis = basis_of(problem.batch.layout, extra)
    matrix = problem.correlations.to_matrix(basis)
    assert matrix.shape[1:] == (basis.dimension, basis.dimension)
    close(Correlations.from_matrix(matrix, basis, content_queries=content), problem.correlations, 1e-12)
    close(matrix.square().sum((1, 2)), problem.correlations.squared_norm(), 1e-12)
    if not content:
        silent = Correlations.from_matrix(matrix, basis)
        assert float(silent.content_position.abs().max()) < 1e-12
        assert float(silent.content_content.abs().max()) < 1e-12


@CASES
@EXTRA
def test_from_the_matrix_to_correlations_and_back(case, extra, rng, make_problem, close):
    """With one cluster the blocks are all of Q on the span of features and position codes."""
    layout = make_problem(clusters=1).batch.layout
    basis = basis_of(layout, extra)
    rows = torch.cat([basis.features[0], basis.positions])
    span = rows.T @ rows
    matrix = torch.from_numpy(rng.standard_normal((2, basis.dimension, basis.dimension)))
    back = Correlations.from_matrix(matrix, basis).to_matrix(basis)
    close(back, span @ matrix @ span, 1e-12)
    if extra == 0:
        close(back, matrix, 1e-12)


def test_each_block_is_the_product_it_is_named_after(rng, make_problem):
    layout = make_problem(clusters=2).batch.layout
    basis = basis_of(layout, 2)
    matrix = torch.from_numpy(rng.standard_normal((1, basis.dimension, basis.dimension)))
    found = Correlations.from_matrix(matrix, basis)
    e, v, q = basis.positions, basis.features, matrix[0]
    pairs = {
        (found.feature_position[0, 2, 1, 0], e[2] @ q @ v[1, 0]),
        (found.position_position[0, 2, 4], e[2] @ q @ e[4]),
        (found.content_position[0, 1, 0, 4], v[1, 0] @ q @ e[4]),
        (found.content_content[0, 1, 0, 1], v[1, 0] @ q @ v[1, 1]),
    }
    for block, product in pairs:
        assert abs(float(block - product)) < 1e-12


@CONTENT
def test_zeros_are_the_start(content, make_problem):
    layout = make_problem().batch.layout
    start = Correlations.zeros(layout, 3, content_queries=content, dtype=torch.float32)
    assert (start.seeds, start.content_queries, len(start.named())) == (3, content, 4 if content else 2)
    for block in start.named().values():
        assert block.dtype == torch.float32
        assert len(block) == 3
        assert not block.any()


def test_half_a_content_model_is_refused(make_problem, complaint):
    blocks = make_problem(content=True).correlations.named()
    del blocks["content_content"]
    with complaint("content_content", "need both content blocks"):
        Correlations(**blocks)


def test_map_meets_the_same_block_of_every_sibling(make_problem):
    model = make_problem(content=True).correlations
    total = model.map(lambda one, two, three: one + 2 * two + 3 * three, model, model)
    for name, block in model.named().items():
        assert torch.equal(total.named()[name], block + 2 * block + 3 * block)
