"""What is recorded of a frame, against loops over samples and positions (exact: float64 round-off)."""

from itertools import product

import numpy as np
import pytest
import torch

from vitdyn.dynamics.gradient import forward_pass
from vitdyn.models.reference import attend
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.observables import RECORD, ModelState
from vitdyn.observables.observable import observe
from vitdyn.observables.standard import _sums, sums_by_torch

MAE, CL = MaskedReconstruction(), Contrastive(temperature=0.5, weight_decay=0.3)
CASES = pytest.mark.parametrize("case", range(4))
BOTH = pytest.mark.parametrize("objective", [MAE, CL], ids=["mae", "cl"])
CONTENT = pytest.mark.parametrize("content", [False, True], ids=["positions", "content"])


class Frame:
    """One observed model: K = 2 clusters of unequal areas, and loops that read off the same things."""

    def __init__(self, problem, objective):
        views = problem.views[:1] if objective is MAE else problem.views
        self.problem, self.batch = problem, problem.batch
        self.layout, self.visible = problem.batch.layout, views[0]
        self.forward = forward_pass(problem.correlations, problem.batch, views, {})
        self.counts_all = objective is CL
        owners = ((None, objective),) * len(self.batch.seeds)
        state = ModelState(problem.correlations, objective, self.forward, 0, None, owners)
        content = problem.correlations.content_queries
        self.declared = [each for each in RECORD if content or each.needs != "content queries"]
        self.state, self.found = state, observe(state, self.declared)

    def cells(self):
        """Every seed, cluster and area, with the positions of that area."""
        table = self.layout.area_of_patch
        for s, k, i in product(
            range(len(self.batch.seeds)), range(self.layout.clusters), range(self.layout.areas)
        ):
            yield s, k, i, np.flatnonzero(table[k] == i)

    def samples(self, s, k, p, *, masked_only):
        """The samples of a cluster that count for a query."""
        drawn = [b for b in range(self.batch.count) if self.batch.cluster[s, b] == k]
        return [b for b in drawn if not (masked_only and self.visible[s, b, p])]

    def attention(self, s, b, p, j):
        return float(self.forward.attention[0][s, b, j, p])

    def shows(self, s, b, k, i):
        return any(self.visible[s, b, p] for p in np.flatnonzero(self.layout.area_of_patch[k] == i))

    def check(self, name, value):
        """Compare an observable with ``value(seed, cluster, area, position)``: a number, or one per key area.

        Areas that the cluster lacks are missing, as the area of the query and as that of the key.
        """
        for s, k, i, positions in self.cells():
            stored = self.found[name][s, k, i].reshape(-1, 3)
            each = np.reshape([value(s, k, i, p) for p in positions], (len(positions), len(stored)))
            for j, found in enumerate(stored):
                lacking = len(stored) > 1 and self.layout.sizes[k, j] == 0
                expected = [np.nan] * 3 if lacking else statistics(each[:, j])
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def statistics(values):
    """Mean, minimum and maximum of the values that are numbers; three NaN where there is none."""
    kept = [value for value in values if not np.isnan(value)]
    return [np.mean(kept), min(kept), max(kept)] if kept else [np.nan] * 3


def mean(values):
    return np.mean(values) if values else np.nan


@pytest.fixture
def frame(make_problem):
    def build(objective, content=False):
        return Frame(make_problem(clusters=2, content=content, samples=7), objective)

    return build


@CASES
@BOTH
class TestAttention:
    def test_area_attention(self, case, objective, frame):
        seen = frame(objective)

        def value(s, k, i, p):
            counted = seen.samples(s, k, p, masked_only=not seen.counts_all)
            return [mean([seen.attention(s, b, p, j) for b in counted]) for j in range(seen.layout.areas)]

        seen.check("area_attention", value)

    def test_own_area_attention_where_the_own_area_shows(self, case, objective, frame):
        seen = frame(objective)

        def value(s, k, i, p):
            counted = seen.samples(s, k, p, masked_only=not seen.counts_all)
            return mean([seen.attention(s, b, p, i) for b in counted if seen.shows(s, b, k, i)])

        seen.check("own_area_attention", value)

    def test_reconstruction_error_of_masked_patches(self, case, objective, frame):
        seen = frame(objective)
        for s, k, i, positions in seen.cells():
            each = []
            for p in positions:
                errors = []
                for b in seen.samples(s, k, p, masked_only=True):
                    parts = [
                        (float(seen.batch.latents[s, b, j]) * (seen.attention(s, b, p, j) - (j == i))) ** 2
                        for j in range(seen.layout.areas)
                    ]
                    errors.append(0.5 * sum(parts))
                each.append(mean(errors))
            kept = [value for value in each if not np.isnan(value)]
            stored = float(seen.found["reconstruction_error"][s, k, i])
            np.testing.assert_allclose(stored, mean(kept), rtol=0, atol=1e-12)

    def test_sums_by_torch_are_those_of_the_kernel(self, case, objective, frame):
        state = frame(objective).state
        counted = objective.loss_queries(state.forward)
        for by_torch, by_kernel in zip(sums_by_torch(state, counted), _sums(state, counted), strict=True):
            torch.testing.assert_close(by_torch, by_kernel, rtol=0, atol=1e-12)

    def test_correlations_by_area(self, case, objective, frame):
        seen = frame(objective, content=True)
        model, table = seen.problem.correlations, seen.layout.area_of_patch
        seen.check("feature_position", lambda s, k, i, p: model.feature_position[s, p, k].tolist())
        seen.check("position_position_self", lambda s, k, i, p: float(model.position_position[s, p, p]))
        for s, k, i, positions in seen.cells():
            for j in range(seen.layout.areas):
                others = [(p, q) for p in positions for q in np.flatnonzero(table[k] == j) if p != q]
                pairs = [float(model.position_position[s, p, q]) for p, q in others]
                psi = [
                    float(model.content_position[s, k, j, q]) for q in positions if seen.layout.sizes[k, j]
                ]
                both = seen.layout.sizes[k, i] and seen.layout.sizes[k, j]
                for stored, expected in (
                    (seen.found["position_position"][s, k, i, j], statistics(pairs)),
                    (seen.found["content_position"][s, k, j, i], statistics(psi)),
                    (
                        seen.found["content_content"][s, k, i, j],
                        model.content_content[s, k, i, j] if both else np.nan,
                    ),
                ):
                    np.testing.assert_allclose(stored, expected, rtol=0, atol=1e-12)


@CASES
@BOTH
@CONTENT
def test_losses_and_diversity(case, objective, content, frame):
    seen = frame(objective, content)
    decay = 0.5 * objective.weight_decay * seen.problem.correlations.squared_norm()
    bare = objective.loss(seen.forward)
    torch.testing.assert_close(seen.found["loss"], bare + decay)
    torch.testing.assert_close(seen.found["excess_loss"], bare + decay - objective.lower_bound(seen.forward))
    assert (seen.found["excess_loss"] >= -1e-12).all()
    maps = attend(seen.problem.correlations, seen.batch, seen.visible)
    for seed in range(len(seen.batch.seeds)):
        scores = [sorted(maps[seed, b].mean(0).tolist())[-10:] for b in (0, seen.batch.count - 1)]
        np.testing.assert_allclose(
            seen.found["top_key_concentration"][seed], np.mean([np.mean(s) for s in scores])
        )


@BOTH
@CONTENT
def test_what_is_recorded_is_what_is_declared(objective, content, frame):
    """The same names, and as many axes as each declares."""
    seen = frame(objective, content)
    sizes = {"seed": len(seen.batch.seeds), "cluster": 2, "statistic": 3}
    for about, value in zip(seen.declared, seen.found.values(), strict=True):
        areas = seen.layout.areas
        assert tuple(value.shape) == tuple(sizes.get(axis, areas) for axis in about.axes)


def test_samples_that_nobody_drew_are_missing(make_problem):
    """A cluster without a sample has no attention; its correlations are there all the same."""
    problem = make_problem(clusters=2, seeds=1)
    problem.batch.cluster.fill_(0)
    problem.batch.latents.fill_(1.0)
    exists = torch.from_numpy(problem.batch.layout.sizes[0] > 0)
    problem.batch.latents.mul_(exists)
    found = Frame(problem, CL).found
    assert found["area_attention"][:, 1].isnan().all()
    assert found["own_area_attention"][:, 1].isnan().all()
    assert not found["area_attention"][0, 0, 0, 0].isnan().any()
    assert not found["feature_position"][0, 1, 0, 0].isnan().any()
