"""Curvature along correlations: against the dense Hessian of a small layer (exact), and the theory's (statistical)."""

import numpy as np
import pytest
import torch

from vitdyn.data import AreaSizes, PatchGenerator, PatchLayout, Uniform
from vitdyn.dynamics import GradientDescent, Schedule, Training, simulate
from vitdyn.landscape import Hessian
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.observables import Observable
from vitdyn.observables.correlation_curvature import (
    CORRELATION_CURVATURES,
    DIRECTIONS,
    AlongCorrelation,
)
from vitdyn.observables.loss_surface import loss_surface
from vitdyn.theory import contrastive_hessian, reconstruction_hessian

LAYOUT, LATENTS = PatchLayout.from_sizes([4, 3, 2]), Uniform(low=1.0, high=1.5)
WORDS = {"own_keys": "the own area", "global_keys": "the global area", "other_keys": "another local area"}


def training(layout, objective, observables, **options):
    options = {"steps": 2, "batch_size": 16, "schedule": Schedule(frames=2), **options}
    return Training(
        generator=PatchGenerator(layout=layout, latents=LATENTS), objective=objective, observables=observables,
        precision="float64", optimizer=GradientDescent(learning_rate=0.5), **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def dense():
    """The Hessian's block of each query of a small layer after two steps, and the curvatures of the same state."""
    found = {}

    def look(state):
        surface = loss_surface(state)
        hessian = Hessian(surface)
        whole = torch.stack(
            [hessian @ column for column in torch.eye(surface.dimension, dtype=torch.float64)]
        )
        rows = [np.r_[3 * p : 3 * p + 3, 27 + 9 * p : 36 + 9 * p] for p in range(9)]
        found["blocks"] = [whole.numpy()[np.ix_(row, row)] for row in rows]
        found["between queries"] = whole.square().sum().item() - sum(
            (each**2).sum() for each in found["blocks"]
        )
        found.update({each.name: float(each.compute(state)[0]) for each in CORRELATION_CURVATURES})
        return state.loss

    look = Observable(name="look", compute=look)
    simulate(training(LAYOUT, MaskedReconstruction(), (look,), evaluation_samples=32))
    return found


def test_the_hessian_of_masked_reconstruction_is_block_diagonal(dense):
    assert dense["between queries"] == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("kind", DIRECTIONS)
def test_it_is_the_mean_over_queries_of_entries_of_the_dense_hessian(kind, dense):
    area, blocks = LAYOUT.area_of_patch[0], dense["blocks"]
    queries = [p for p in range(9) if (area[p] == 0) == (kind == "global_query")]
    if kind.endswith("keys"):
        direction = AlongCorrelation(kind)._differences(LAYOUT)
        assert not direction[area == 0].any() and direction.any()
        expected = (
            sum(direction[p] @ blocks[p][3:, 3:] @ direction[p] for p in queries) / (direction**2).sum()
        )
    else:
        place = [area[p] if kind == "own_area" else 0 for p in queries]
        expected = np.mean([blocks[p][j, j] for p, j in zip(queries, place, strict=True)])
    assert dense[f"{kind}_curvature"] == pytest.approx(expected, rel=1e-10)


def at_the_start(objective, kinds, clusters=1):
    """At Q = 0, five seeds of 256 samples, P = 64."""
    layout = PatchLayout.from_sizes([44, 5, 5, 5, 5], clusters=clusters)
    options = {"seeds": 5, "evaluation_samples": 256, "steps": 1}
    return simulate(training(layout, objective, [f"{kind}_curvature" for kind in kinds], **options))


@pytest.fixture(scope="module")
def start():
    return at_the_start(MaskedReconstruction(), DIRECTIONS)


def standard_errors(run, kind, expected):
    values = run[f"{kind}_curvature"].to_numpy()[0]
    return (values.mean() - expected) / (values.std(ddof=1) / np.sqrt(len(values)))


SIZES = AreaSizes(patches=64.0, global_size=44.0, local_size=5.0)


@pytest.mark.parametrize("kind", DIRECTIONS)
def test_at_the_start_it_is_what_the_theory_says(kind, start):
    """Eight standard errors over five seeds."""
    query = "global" if kind == "global_query" else "local"
    symmetric, *others = reconstruction_hessian(SIZES, LATENTS, query)
    if kind.endswith("keys"):
        (expected,) = (each.eigenvalues[0] for each in others if each.name.endswith(WORDS[kind]))
    else:
        expected = symmetric.along("Φ own" if kind == "own_area" else "Φ global")[1]
    assert abs(standard_errors(start, kind, expected)) < 8


def test_contrast_bends_down_along_the_global_area_as_the_theory_says():
    """At a high temperature similarity, which the formula leaves out, vanishes; eight standard errors."""
    law = contrastive_hessian(SIZES, LATENTS, clusters=2, temperature=64.0, negatives=255)
    run = at_the_start(Contrastive(temperature=64.0), ("global_area", "global_query"), clusters=2)
    for kind in ("global_area", "global_query"):
        assert abs(standard_errors(run, kind, law[0].along("Φ global")[1])) < 8
        assert run[f"{kind}_curvature"].to_numpy()[0].max() < 0
