"""Bounds, views, rates and complaints of the listed objectives (exact: float64 round-off)."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from vitdyn.data import PatchBatch, PatchGenerator, PatchLayout, Uniform
from vitdyn.dynamics import GradientDescent, loss_gradient
from vitdyn.dynamics.gradient import forward_pass
from vitdyn.models import Correlations
from vitdyn.objectives import (
    BYOL,
    CMAE,
    DINO,
    IBOT,
    IJEPA,
    MSN,
    OBJECTIVES,
    RCMAE,
    UMAE,
    BEiT,
    Contrastive,
    Data2Vec,
    DeepCluster,
    MaskedReconstruction,
    SimMIM,
    SimSiam,
    SwAV,
)
from vitdyn.objectives.contract import first_state
from vitdyn.objectives.objective import FAMILIES

TEN = pytest.mark.parametrize("case", range(10))
MAE = MaskedReconstruction()
CL = Contrastive(temperature=0.7)
BOTH = pytest.mark.parametrize("objective", [MAE, CL], ids=["mae", "cl"])


def seen_by(objective, problem):
    """The forward pass with as many views as the objective takes."""
    views = problem.views[: objective.view_count]
    return forward_pass(problem.correlations, problem.batch, views, {})


class TestBounds:
    def saturated(self, problem, size):
        """Φ = +T to a position's own area and −T to every other: the best that a model can do for MAE."""
        layout = problem.batch.layout
        own = torch.from_numpy(layout.area_of_patch).T[..., None] == torch.arange(layout.areas)
        problem.correlations = Correlations.zeros(layout, len(problem.batch.seeds))
        problem.correlations.feature_position.copy_(torch.where(own, size, -size))
        return seen_by(MAE, problem)

    @TEN
    def test_masked_reconstruction_comes_as_near_as_asked(self, case, make_problem):
        problem = make_problem()
        excess = []
        for size in (2.0, 20.0, 100.0):
            forward = self.saturated(problem, size)
            excess.append(MAE.loss(forward) - MAE.lower_bound(forward))
        assert (excess[0] > excess[1]).all()
        assert (excess[2].abs() < 1e-12).all()

    def test_an_area_that_is_wholly_masked_costs_half_its_square(self):
        layout = PatchLayout(partition=((0, 0, 1, 1, 2),))
        batch = PatchBatch(layout, (0,), torch.zeros(1, 1).long(), torch.tensor([[[1.0, 2.0, 3.0]]]))
        visible = torch.tensor([[[True, False, False, False, True]]])
        forward = forward_pass(Correlations.zeros(layout, 1, dtype=torch.float32), batch, (visible,), {})
        assert MAE.lower_bound(forward).tolist() == [2 * 0.5 * 2.0**2]

    def test_contrastive_attains_its_bound_where_all_negatives_are_orthogonal(self):
        """Two clusters, one sample of each, all attention on the strongest area."""
        layout = PatchLayout.from_sizes([4, 2, 1], clusters=2)
        latents = torch.tensor([[[1.0, 2.0, 0.5], [0.7, 1.2, 0.3]]], dtype=torch.float64)
        batch = PatchBatch(layout, (0,), torch.tensor([[0, 1]]), latents)
        model = Correlations.zeros(layout, 1)
        model.feature_position[..., 1] = 60.0
        visible = batch.area != 2
        forward = forward_pass(model, batch, (visible, visible), {})
        expected = np.mean([np.log1p(np.exp(-(z**2) / CL.temperature)) for z in (2.0, 1.2)])
        np.testing.assert_allclose(CL.lower_bound(forward), [expected], rtol=1e-12)
        np.testing.assert_allclose(CL.loss(forward), [expected], rtol=1e-10)


class TestViews:
    @pytest.mark.parametrize(("ratio", "masked"), [(0.5, 5), (0.1, 1), (0.9, 9), (0.26, 3)])
    def test_masked_reconstruction_draws_one_view(self, ratio, masked, rng):
        (view,) = MaskedReconstruction(mask_ratio=ratio).draw_views(rng, 7, 10)
        assert view.shape == (7, 10)
        assert ((~view).sum(1) == masked).all()

    @pytest.mark.parametrize("kind", ["independent", "complementary"])
    def test_contrastive_draws_two(self, kind, rng):
        first, second = Contrastive(mask_ratio=0.3, views=kind).draw_views(rng, 50, 10)
        assert ((~first).sum(1) == 3).all()
        assert ((~second).sum(1) == (7 if kind == "complementary" else 3)).all()
        assert (first == ~second).all() == (kind == "complementary")

    def test_loss_queries(self, make_problem):
        problem = make_problem()
        assert torch.equal(MAE.loss_queries(seen_by(MAE, problem)), ~problem.views[0])
        assert CL.loss_queries(seen_by(CL, problem)).all()


WRONG = {
    "mask_ratio": (0.0, 1.0, -0.5, "half", None),
    "temperature": (0.0, -1.0, float("nan"), True),
    "momentum": (-0.1, 1.1, float("nan")),
    "momentum_steps": (-1, 2.5),
    "predictor_rate": (-1.0, float("inf")),
    "weight": (-0.1, float("nan")),
}
"""What no objective that has such a field can mean."""


class TestComplaints:
    layout = PatchLayout.from_sizes([6, 4])

    @pytest.mark.parametrize("kind", OBJECTIVES.values())
    @pytest.mark.parametrize("ratio", [0.04, 0.96])
    def test_masks_of_nothing_or_of_everything(self, kind, ratio, complaint):
        with complaint("mask_ratio", "at least one must be masked and one visible"):
            kind(mask_ratio=ratio).check(self.layout, 8)
        kind(mask_ratio=0.1).check(self.layout, 8)

    @pytest.mark.parametrize("contrast", [CL, CMAE()])
    def test_contrastive_needs_a_negative(self, contrast, complaint):
        with complaint("batch_size", "at least 2"):
            contrast.check(self.layout, 1)
        contrast.check(self.layout, 2)
        MAE.check(self.layout, 1)

    @pytest.mark.parametrize("kind", [SwAV, MSN])
    def test_no_balance_gives_a_sample_to_more_prototypes_than_samples(self, kind, complaint):
        with complaint("prototypes", "at most 6"):
            kind(prototypes=7).check(self.layout, 6)
        kind(prototypes=6).check(self.layout, 6)

    @pytest.mark.parametrize(
        ("kind", "field", "value"),
        [
            *(
                (kind, each.name, value)
                for kind in OBJECTIVES.values()
                for each in fields(kind)
                for value in WRONG.get(each.name, ())
            ),
            *((Contrastive, "weight_decay", value) for value in (-1e-9, float("inf"), "0")),
            (Contrastive, "views", "same"),
            *((kind, "momentum", value) for kind in (BYOL, MSN, DINO, IBOT) for value in (-0.1, 1.1)),
            *((kind, "centre_momentum", value) for kind in (DINO, IBOT) for value in (-0.1, 1.1)),
            *((kind, "teacher_temperature", value) for kind in (DINO, IBOT) for value in (0.0, -1.0)),
            *((kind, "temperature", value) for kind in (SwAV, MSN, DeepCluster) for value in (0.0, -1.0)),
            *((kind, "prototypes", value) for kind in (SwAV, MSN) for value in (1, 2.5)),
            (SwAV, "epsilon", 0.0),
            (RCMAE, "teacher_sees", "others"),
            (SimSiam, "predictor_rate", -1.0),
            (DeepCluster, "prototypes", 257),
        ],
    )
    def test_bad_fields_are_named(self, kind, field, value, complaint):
        with complaint(field, "must be"):
            kind(**{field: value})


def test_a_schedule_that_starts_anew_must_be_one(complaint):
    with complaint("momentum_steps", "epoch_steps"):
        RCMAE(epoch_steps=10)


def test_a_teacher_that_sees_others_needs_another_sample(complaint):
    layout, objective = PatchLayout.from_sizes([4, 3]), RCMAE(teacher_sees="permuted")
    model, batch = Correlations.zeros(layout, 1), PatchGenerator(layout=layout).sample(1, [0])
    view, state = torch.arange(7)[None, None] < 4, first_state(objective, model, (0,))
    with complaint("teacher_sees", "batch_size"):
        objective.loss(forward_pass(model, batch, (view,), state))


def test_the_registry():
    assert list(OBJECTIVES) == [kind.name for kind in OBJECTIVES.values()]
    assert {kind.family for kind in OBJECTIVES.values()} <= set(FAMILIES)


def test_how_default_learning_rates_scale():
    """With the number of clusters; for the pooled output of contrastive training with the positions too."""
    small, large = PatchLayout.from_sizes([6, 3, 2]), PatchLayout.from_sizes([12, 6, 4], clusters=3)
    assert MAE.default_learning_rate(large) == 3 * MAE.default_learning_rate(small)
    assert CL.default_learning_rate(large) == 6 * CL.default_learning_rate(small)


@pytest.mark.parametrize("clusters", [1, 3])
@pytest.mark.parametrize(
    "objective",
    [MAE, CL, SimMIM(), BEiT(), UMAE(), Data2Vec(), IJEPA(), RCMAE(), CMAE()],
    ids=lambda one: one.name,
)
def test_the_default_learning_rate_lowers_the_loss(objective, clusters):
    """One step from Q = 0 gains, for a layout of another size too; what the objective carries stays as it is."""
    for sizes in ([6, 3, 2], [20, 5, 5, 3]):
        layout = PatchLayout.from_sizes(sizes, clusters=clusters)
        batch = PatchGenerator(layout=layout, latents=Uniform(low=0.2, high=2.0)).sample(64, [1])
        drawn = objective.draw_views(np.random.default_rng(1), 64, layout.patches)
        views = tuple(torch.from_numpy(view)[None] for view in drawn)
        model, rule = (
            Correlations.zeros(layout, 1),
            GradientDescent(learning_rate=objective.default_learning_rate(layout)),
        )
        state = first_state(objective, model, (1,))
        gradient, before = loss_gradient(model, objective, batch, views, state)
        start = objective.loss(before)
        rule.step(model, gradient, {}, 0)
        assert objective.loss(forward_pass(model, batch, views, state)) < 0.999 * start
