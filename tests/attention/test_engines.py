"""What lies between the products has two engines, torch and compiled: they must agree, large numbers too."""

import pytest
import torch

from vitdyn.attention import (
    Correlations,
    Workspace,
    factored,
    factored_forward,
    factored_pullback,
    fused,
    shares,
)
from vitdyn.data import PatchGenerator, PatchLayout

SIZES = [[13, 5, 1, 4], [9, 9, 5], [6, 2, 3, 4, 8]]


def through(engine, monkeypatch, problem, adjoint, weight):
    monkeypatch.setattr(factored, "_engine", lambda device: engine)
    correlations, batch, visible = problem
    attention, saved = factored_forward(
        correlations, batch.latents, batch.cluster, visible, batch.layout, Workspace()
    )
    kept = attention.clone()
    gradient = factored_pullback(saved, adjoint, weight)
    return [kept, gradient.feature_position.clone(), gradient.position_position.clone()]


@pytest.mark.parametrize("clusters", [1, 3])
@pytest.mark.parametrize("scale", [0.1, 3.0, 40.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("broadcast", [False, True])
def test_engines_agree(clusters, scale, dtype, tolerance, broadcast, monkeypatch):
    draws = torch.Generator().manual_seed(clusters)
    layout = PatchLayout.from_sizes(SIZES[:clusters], seed=1)
    batch = PatchGenerator(layout=layout).sample(7, [0, 1], dtype=dtype)
    visible = torch.rand(2, 7, layout.patches, generator=draws) < 0.5
    visible[0, 0], visible[0, 1] = True, False
    visible[1, 0, batch.area[1, 0] == 2] = False
    normal = lambda *shape: torch.randn(shape, generator=draws, dtype=dtype)  # noqa: E731
    correlations = Correlations.zeros(layout, 2, dtype=dtype)
    correlations = correlations.map(lambda block: normal(*block.shape) * min(scale, 3.0))
    correlations = Correlations(
        correlations.feature_position * max(scale / 3, 1), correlations.position_position
    )
    adjoint = normal(2, 7, layout.areas, 1 if broadcast else layout.patches)
    weight = None if broadcast else torch.rand(2, 7, layout.patches, generator=draws).to(dtype)

    problem = (correlations, batch, visible)
    by_torch = through(shares, monkeypatch, problem, adjoint, weight)
    compiled = through(fused, monkeypatch, problem, adjoint, weight)
    for slow, fast in zip(by_torch, compiled, strict=True):
        assert fast.isfinite().all()
        torch.testing.assert_close(fast, slow, rtol=tolerance, atol=tolerance)


def test_engine_is_compiled_on_cpu_and_torch_elsewhere_and_without_numba(monkeypatch):
    factored._engine.cache_clear()
    assert factored._engine("cpu") is fused
    assert factored._engine("cuda") is shares
    factored._engine.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "vitdyn.attention.fused", None)
    monkeypatch.delattr("vitdyn.attention.fused")
    assert factored._engine("cpu") is shares
    factored._engine.cache_clear()


def test_compiled_exponential_is_exact_to_single_precision():
    import numba
    import numpy as np

    @numba.njit
    def each(values):
        out = np.empty_like(values)
        for index in range(values.size):
            out[index] = fused._exponential(values[index])
        return out

    single = np.linspace(-87, 5, 200_001, dtype=np.float32)
    assert np.abs(each(single) / np.exp(single.astype(np.float64)) - 1).max() < 2e-7
    double = np.linspace(-700, 5, 2001)
    np.testing.assert_allclose(each(double), np.exp(double), rtol=1e-15)
