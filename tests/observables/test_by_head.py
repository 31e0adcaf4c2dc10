"""Attention by layer and head against loops over samples and queries (exact: float64 round-off)."""

from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np
import pytest
import torch

import vitdyn as vd
from vitdyn.cli import catalogue
from vitdyn.dynamics.gradient import forward_pass
from vitdyn.models import Model
from vitdyn.models.model import ATTENTION_MAPS
from vitdyn.observables import BY_HEAD, RECORD, ModelState
from vitdyn.observables.observable import observe

MAE, CL = vd.MaskedReconstruction(), vd.Contrastive()
BOTH = pytest.mark.parametrize("objective", [MAE, CL], ids=["mae", "cl"])


@dataclass(frozen=True, kw_only=True)
class Layers(Model):
    """Three layers of two heads, each of logits of its own; the outputs are those of the last."""

    name = "layers"
    offers = frozenset({ATTENTION_MAPS})
    layers: int = 3
    heads: int = 2

    def initial(self, generator, streams, like):
        shape = self.layers, self.heads, *[generator.layout.patches] * 2
        drawn = [torch.from_numpy(each.standard_normal(shape)) for each in streams.each()]
        return vd.Parameters(logits=torch.stack(drawn).to(like), feature_count=generator.feature_count)

    def outputs(self, parameters, batch, visible):
        maps = self.attention_maps(parameters, batch, visible)[:, :, -1].mean(2)
        return maps @ (batch.contents() * visible[..., None])

    def attention_maps(self, parameters, batch, visible):
        # a visible patch is attended to by its content too, so that maps differ from sample to sample
        keys = (batch.contents().sum(-1) * visible)[:, :, None, None, None]
        return torch.softmax(parameters.logits[:, None] + keys, -1)


def state_of(problem, objective, model=None, parameters=None):
    views = problem.views[: objective.view_count]
    model, parameters = model or vd.OneLayer(), parameters or problem.correlations
    forward = forward_pass(parameters, problem.batch, views, {}, model=model)
    owners = ((None, objective),) * len(problem.batch.seeds)
    return ModelState(parameters, objective, forward, 0, None, owners, model)


@pytest.fixture
def layered(rng, make_problem):
    """A problem with random maps of three layers and two heads; a sample hides an area whole."""

    def build(objective):
        problem = make_problem(clusters=2, samples=7)
        patches = problem.batch.layout.patches
        logits = 2 * torch.from_numpy(rng.standard_normal((len(problem.batch.seeds), 3, 2, patches, patches)))
        return problem, state_of(problem, objective, Layers(), vd.Parameters(logits=logits))

    return build


def counts(problem, objective, s, b, p):
    """Whether the loss trains a query: a masked one, or any of contrast."""
    return objective is CL or not problem.views[0][s, b, p]


def area_attention(problem, maps, s, b, p, j):
    """A of one query of one map, key by key."""
    area = problem.batch.layout.area_of_patch[problem.batch.cluster[s, b]]
    shown = problem.views[0][s, b].numpy()
    return sum(float(maps[s, b, p, q]) for q in range(len(area)) if area[q] == j and shown[q])


def mean(values):
    return np.mean(values) if len(values) else np.nan


def expected_by_area(problem, objective, maps, s, k, i):
    """What queries of area i of cluster k give to each area, to their own where it shows, and to others."""
    layout, drawn = problem.batch.layout, problem.batch.cluster[s].tolist()
    members = np.flatnonzero(layout.area_of_patch[k] == i)
    each, own = [], []
    for p in members:
        counted = [b for b in range(7) if drawn[b] == k and counts(problem, objective, s, b, p)]
        shows = [b for b in counted if problem.views[0][s, b][members].any()]
        if counted:
            of_query = [
                [area_attention(problem, maps, s, b, p, j) for b in counted] for j in range(layout.areas)
            ]
            each.append([mean(values) for values in of_query])
        if shows:
            own.append(mean([area_attention(problem, maps, s, b, p, i) for b in shows]))
    to = np.mean(each, 0) if each else np.full(layout.areas, np.nan)
    others = [j for j in range(layout.areas) if j not in (0, i)]
    other = sum(to[j] for j in others) if each else np.nan
    return np.where(layout.sizes[k] > 0, to, np.nan), mean(own), other


@BOTH
def test_attention_to_areas_of_each_head(objective, layered):
    problem, state = layered(objective)
    found, maps = observe(state, BY_HEAD.values()), state.head_maps(slice(None))
    layout = problem.batch.layout
    for s, m, h in product(range(len(problem.batch.seeds)), range(3), range(2)):
        for k, i in product(range(2), range(layout.areas)):
            to, own, other = expected_by_area(problem, objective, maps[:, :, m, h], s, k, i)
            at = s, m, h, k, i
            np.testing.assert_allclose(found["head_area_attention"][at], to, rtol=0, atol=1e-12)
            np.testing.assert_allclose(found["head_global_attention"][at], to[0], rtol=0, atol=1e-12)
            np.testing.assert_allclose(found["head_own_attention"][at], own, rtol=0, atol=1e-12)
            np.testing.assert_allclose(found["head_other_attention"][at], other, rtol=0, atol=1e-12)
    assert found["head_own_attention"].isnan().numpy()[:, :, :, layout.sizes == 0].all()


@BOTH
def test_how_alike_queries_are_and_how_different_heads(objective, layered):
    problem, state = layered(objective)
    found, maps = observe(state, BY_HEAD.values()), state.head_maps(slice(None))
    layout = problem.batch.layout
    for s, m in product(range(len(problem.batch.seeds)), range(3)):
        cosines, apart, differ = ([], []), [], []
        for b in range(7):
            counted = [p for p in range(layout.patches) if counts(problem, objective, s, b, p)]
            for h, (p, q) in product(range(2), combinations(counted, 2)):
                one, other = maps[s, b, m, h, p], maps[s, b, m, h, q]
                cosines[h].append(float(one @ other / one.norm() / other.norm()))
            for p in counted:
                one, other = (
                    np.array(
                        [area_attention(problem, maps[:, :, m, h], s, b, p, j) for j in range(layout.areas)]
                    )
                    for h in range(2)
                )
                rest = one.sum() - other.sum()
                apart.append(0.5 * (abs(one - other).sum() + abs(rest)))
                differ.append(one.argmax() != other.argmax())
        np.testing.assert_allclose(found["query_homogeneity"][s, m], [*map(mean, cosines)], atol=1e-12)
        np.testing.assert_allclose(found["head_diversity"][s, m], mean(apart), atol=1e-12)
        np.testing.assert_allclose(found["head_specialisation"][s, m], mean(differ), atol=1e-12)


@BOTH
@pytest.mark.parametrize("content", [False, True], ids=["positions", "content"])
def test_the_layer_has_the_numbers_of_the_standard_record(objective, content, make_problem):
    state = state_of(make_problem(clusters=2, content=content, samples=7), objective)
    found = observe(state, BY_HEAD.values())
    standard = observe(state, [each for each in RECORD if each.name.endswith("area_attention")])
    for name, of_head in (
        ("area_attention", "head_area_attention"),
        ("own_area_attention", "head_own_attention"),
    ):
        expected = standard[name][..., 0][:, None, None]
        np.testing.assert_allclose(found[of_head], expected, rtol=0, atol=1e-12)
    assert found["head_diversity"].isnan().all() and found["head_specialisation"].isnan().all()


def test_where_areas_move_queries_are_positions_of_the_layout():
    """As they are to the standard record: it takes the same attention, of one layer and head."""
    data = vd.PatchGenerator(
        layout=vd.PatchLayout.from_sizes([[4, 3, 2], [5, 3, 1]], grid=(3, 3)), largest_shift=2
    )
    found = vd.simulate(
        vd.Training(
            generator=data, objective=MAE, model=vd.Transformer(initial_scale=1.0), steps=0, seeds=2,
            evaluation_samples=6, precision="float64",
            observables=("area_attention", "own_area_attention", "head_area_attention", "head_own_attention"),
        )
    )  # fmt: skip
    for name, of_head in (
        ("area_attention", "head_area_attention"),
        ("own_area_attention", "head_own_attention"),
    ):
        expected = found[name].sel(statistic="mean").to_numpy()
        np.testing.assert_allclose(found[of_head][:, :, 0, 0], expected, rtol=0, atol=1e-12)


def test_samples_are_taken_a_few_at_a_time_alike(layered, monkeypatch):
    _, state = layered(MAE)
    whole = observe(state, BY_HEAD.values())
    monkeypatch.setattr("vitdyn.observables.by_head._AT_A_TIME", 1)
    for name, values in observe(replace(state), BY_HEAD.values()).items():
        torch.testing.assert_close(values, whole[name], rtol=0, atol=1e-12, equal_nan=True)


def test_extremes(make_problem):
    """Equal heads are no distance apart; uniform maps are all alike; heads with areas of their own are 1 apart."""
    problem = make_problem(clusters=1, samples=4, seeds=1)
    problem.views = (torch.ones_like(problem.views[0]),) * 2
    logits = torch.zeros(1, 3, 2, *[problem.batch.layout.patches] * 2)
    own = torch.from_numpy(problem.batch.layout.area_of_patch[0])
    logits[:, 1] += 9.0 * own  # equal heads
    logits[:, 2] -= 999.0 * torch.stack([own != 0, own != 1])[:, None]
    found = observe(state_of(problem, CL, Layers(), vd.Parameters(logits=logits.double())), BY_HEAD.values())
    assert found["query_homogeneity"].allclose(torch.ones(1, 3, 2, dtype=torch.float64), atol=1e-12)
    assert found["head_diversity"][0, :2].tolist() == [0, 0] == found["head_specialisation"][0, :2].tolist()
    assert found["head_diversity"][0, 2] == pytest.approx(1) and found["head_specialisation"][0, 2] == 1


@pytest.fixture(scope="module")
def training():
    return vd.Training(
        generator=vd.PatchGenerator(layout=vd.PatchLayout.from_sizes([[4, 3, 2], [5, 3, 1]])),
        objective=MAE, model=vd.Transformer(heads=2, initial_scale=0.5), steps=4, batch_size=4,
        evaluation_samples=6, seeds=(3, 8), schedule=vd.Schedule(frames=2), observables=tuple(BY_HEAD),
    )  # fmt: skip


def test_a_run_records_them_and_a_seed_does_not_depend_on_its_neighbours(training):
    together, alone = vd.simulate(training), vd.simulate(replace(training, seeds=(8,)))
    for name, each in BY_HEAD.items():
        assert together[name].dims == ("frame", *each.axes)
        np.testing.assert_array_equal(together[name].sel(seed=[8]), alone[name])
    assert together["head_area_attention"].shape[1:] == (2, 1, 2, 2, 3, 3)
    experiment = vd.Experiment(name="heads", training=training)
    assert vd.Experiment.from_json(experiment.to_json()) == experiment
    described = {each.name: each.text for each in catalogue.metrics()}
    assert described.items() >= {name: each.meaning for name, each in BY_HEAD.items()}.items()
