"""Attention by head, drawn: the numbers are the trajectory's, heads in the order of each seed (exact)."""

from dataclasses import replace

import numpy as np
import pytest

import vitdyn as vd
from vitdyn.plotting import Drawing
from vitdyn.plotting.by_head import LOCAL_PAIRS, attention_by_head, draw_head_curves, draw_over_depth

NAMES = {"own": "head_own_attention", "global": "head_global_attention", "other": "head_other_attention"}


@pytest.fixture(scope="module")
def trajectory():
    return vd.simulate(
        vd.Training(
            generator=vd.PatchGenerator(layout=vd.PatchLayout.from_sizes([[4, 3, 2], [5, 3, 1]])),
            objective=vd.MaskedReconstruction(), model=vd.Transformer(heads=3, initial_scale=1.0), steps=3,
            batch_size=4, evaluation_samples=6, seeds=2, schedule=vd.Schedule(frames=2),
            observables=(*NAMES.values(), "query_homogeneity"),
        )
    )  # fmt: skip


def of_seed(trajectory, pair, seed):
    """Attention (frame, head) of one seed, heads by what local queries give to their own areas at the end."""
    own = trajectory["head_own_attention"][-1, seed, 0, :, :, 1:].mean(("cluster", "query_area"))
    query, _, key = pair.split()
    values = trajectory[NAMES[key]][:, seed, 0].isel(query_area=slice(1, None) if query == "local" else [0])
    return values.mean(("cluster", "query_area")).to_numpy()[:, np.argsort(-own.to_numpy())]


@pytest.mark.parametrize("pair", [*LOCAL_PAIRS, "global to own", "global to other"])
def test_heads_are_ordered_in_each_seed(pair, trajectory):
    found = attention_by_head(trajectory, pair)
    for seed in range(2):
        np.testing.assert_allclose(found[:, seed, 0], of_seed(trajectory, pair, seed), rtol=1e-6)


def test_maps_and_curves_hold_medians_over_seeds(trajectory):
    drawing = vd.plot.draw_by_head({"one": trajectory, "other": trajectory})
    drawing.figure.draw_without_rendering()
    for letter, pair in zip("ace", LOCAL_PAIRS, strict=True):
        cells = {(row[2], row[3]): row[4] for row in drawing.rows if row[0] == letter}
        expected = np.mean([of_seed(trajectory, pair, seed) for seed in range(2)], 0)
        for (frame, head), value in np.ndenumerate(expected):
            assert cells[frame, head] == pytest.approx(value, rel=1e-6)
    own = Drawing.of_size(3, 3)
    (panel,) = own.panels([own.figure.subplots()])
    draw_head_curves(panel, trajectory, "local to own")
    drawn = [row[4] for row in own.rows if row[1] == "local to own, head 2"]
    np.testing.assert_allclose(
        drawn, np.mean([of_seed(trajectory, "local to own", s)[:, 1] for s in range(2)], 0)
    )


def test_numbers_over_depth_are_means_over_heads(trajectory):
    drawing = Drawing.of_size(3, 3)
    (panel,) = drawing.panels([drawing.figure.subplots()])
    draw_over_depth(panel, {"run": trajectory}, "query_homogeneity")
    expected = trajectory.final["query_homogeneity"].mean("head").median("seed")
    assert [row[4] for row in drawing.rows] == pytest.approx(expected.values.tolist())


def test_what_is_not_there_is_named(trajectory, complaint):
    with complaint("pair", "must be one of"):
        attention_by_head(trajectory, "own")
    with complaint("variable"):
        attention_by_head(
            replace(trajectory, dataset=trajectory.dataset.drop_vars("head_own_attention")), "local to own"
        )
