"""Cells of a grid in one batch against the cells one by one (exact: to the bit)."""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
import torch

from vitdyn.data import Constant, PatchGenerator, PatchLayout, Uniform
from vitdyn.dynamics import (
    Adam,
    GradientDescent,
    Momentum,
    Runtime,
    Schedule,
    simulate,
    simulate_grid,
)
from vitdyn.dynamics.grid import ReplicaBatch
from vitdyn.dynamics.joint_batches import JointSource
from vitdyn.dynamics.memory import CACHE_MIB, concurrent_groups, split_cells, work_of
from vitdyn.kernels import torch_backend
from vitdyn.objectives import Contrastive, MaskedReconstruction, Mixture
from vitdyn.observables import METRICS, RECORD, MetricImages, metric_observables

CPU = torch.device("cpu")
KINDS = MaskedReconstruction, Contrastive, Mixture
VALUES = {
    "mask_ratio": (0.3, 0.5),
    "temperature": (0.7, 2.0),
    "weight_decay": (0.0, 0.01),
    "weight": (0.0, 0.3, 1.0),
}
RULES = {
    GradientDescent: [{"learning_rate": 0.3}, {"learning_rate": 2.0}],
    Momentum: [{"learning_rate": 0.3}, {"learning_rate": 1.0, "momentum": 0.5}],
    Adam: [{"learning_rate": 0.1}, {"learning_rate": 0.2, "beta1": 0.5, "beta2": 0.9, "epsilon": 1e-3}],
}


def sizes(cells):
    """How many rows each group of a grid has."""
    return [len(group.rows) for group in split_cells(cells, CPU, CACHE_MIB)]


def check(cells, groups=None):
    """Assert that a grid's trajectories are those of its cells, and that no two cells are the same."""
    if groups is not None:
        assert sizes(cells) == groups
    found = simulate_grid(cells)
    assert len(found) == len(cells)
    for index, (cell, trajectory) in enumerate(zip(cells, found, strict=True)):
        alone = simulate(cell)
        for name in alone.dataset.variables:
            np.testing.assert_array_equal(trajectory[name], alone[name], err_msg=f"cell {index}: {name}")
        assert alone.dataset.equals(trajectory.dataset)
        assert {**alone.dataset.attrs, "seconds": 0} == {**trajectory.dataset.attrs, "seconds": 0}
    ends = [one["final_feature_position"].to_numpy() for one in found]
    assert all(
        a.shape != b.shape or abs(a - b).max() > 1e-6 for i, a in enumerate(ends) for b in ends[i + 1 :]
    )
    return found


class TestBits:
    @pytest.mark.parametrize("precision", ["float32", "float64"])
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("optimizer", RULES)
    def test_every_number_of_objective_and_descent(self, kind, optimizer, precision, make_training):
        objectives = [
            kind(**dict(zip(kind.batchable_fields, values, strict=True)))
            for values in product(*(VALUES[name][-2:] for name in kind.batchable_fields))
        ]
        cells = [
            make_training(objective, optimizer=optimizer(**numbers), precision=precision, steps=6)
            for objective in objectives
            for numbers in RULES[optimizer]
        ]
        check(cells, [2 * len(cells)])

    @pytest.mark.parametrize("kind", KINDS)
    def test_each_field_that_varies_alone(self, kind, make_training):
        """Else a formula that reads a field past ``hyperparameter`` could hide behind another."""
        for name in kind.batchable_fields:
            check([make_training(kind(**{name: value}), steps=4) for value in VALUES[name]])

    def test_a_grid_over_kappa_and_the_learning_rate(self, make_training):
        """Layouts do not share a batch, learning rates of one layout do."""
        generators = [
            PatchGenerator(layout=PatchLayout.from_exponents(32, kappa, 0.3, clusters=2))
            for kappa in (0.7, 0.8, 0.9)
        ]
        cells = [
            make_training(generator=generator, optimizer=GradientDescent(learning_rate=rate), steps=5)
            for rate in (1.0, 3.0)
            for generator in generators
        ]
        check(cells, [4, 4, 4])

    def test_laws_and_seeds_of_their_own(self, make_training):
        layout = make_training().generator.layout
        cells = [
            make_training(
                Contrastive(mask_ratio=ratio),
                generator=PatchGenerator(layout=layout, latents=distribution),
                seeds=seeds,
                steps=5,
            )
            for ratio, distribution, seeds in [
                (0.5, Uniform(), (3, 8)),
                (0.3, Uniform(), (8, 3, 1)),
                (0.5, Constant(value=1.2), (8,)),
                (0.3, Constant(value=1.2), 2),
            ]
        ]
        check(cells, [8])

    def test_metrics(self, make_training, monkeypatch):
        """Also where images pass a few at a time, whose number must not depend on the neighbours."""
        monkeypatch.setattr("vitdyn.observables.representation._AT_A_TIME", 900)
        layout = PatchLayout.from_exponents(16, 0.9, 0.4, clusters=2, arrangement="contiguous", grid=(4, 4))
        metrics = metric_observables(images=MetricImages(objects=12, views=3))
        cells = [
            make_training(
                Mixture(weight=weight),
                generator=PatchGenerator(layout=layout),
                observables=(*RECORD, *metrics),
                steps=4,
                seeds=seeds,
            )
            for weight, seeds in ((0.2, (3, 8)), (0.8, (8,)))
        ]
        found = check(cells, [3])
        assert set(METRICS) <= set(found[0].dataset)

    def test_on_more_cores_and_in_smaller_groups(self, cores, make_training):
        cells = [make_training(optimizer=GradientDescent(learning_rate=rate)) for rate in (0.5, 1.0, 2.0)]
        whole = simulate_grid(cells)
        cores(3)
        assert sizes(cells) == [2, 2, 2]
        split = simulate_grid(cells), simulate_grid(cells, runtime=Runtime(memory_limit_mib=1e-6))
        for runs in split:
            assert all(one.dataset.equals(other.dataset) for one, other in zip(whole, runs, strict=True))


class Own(MaskedReconstruction):
    """A subclass: it may read its fields as it likes."""

    def draw_views(self, generator, samples, patches):
        return tuple(~view for view in super().draw_views(generator, samples, patches))


@dataclass(frozen=True)
class Halving:
    """An optimizer that is not ours."""

    learning_rate: float = 1.0

    def init(self, correlations):
        return {}

    def step(self, correlations, gradient, state, count):
        correlations.map(lambda block, pull: block.sub_(pull, alpha=self.learning_rate / 2**count), gradient)


class TestWhoTrainsAlone:
    @pytest.mark.parametrize(
        "changes",
        [
            {"objective": Own()},
            {"optimizer": Halving()},
            {"content_queries": True},
            {"dataset_size": 9},
        ],
        ids=["objective", "rule", "content", "data set"],
    )
    def test_beside_others(self, changes, make_training):
        """Two cells of a kind that shares no batch, between two that share one."""
        plain = make_training(steps=4)
        odd = [make_training(steps=4, seeds=seeds, **changes) for seeds in ((1, 2), (2, 4))]
        check([plain, *odd, replace(plain, seeds=(5,))], [3, 2, 2])

    def test_what_else_decides_shapes_or_clock(self, make_training):
        plain = make_training()
        others = [
            {"batch_size": 7},
            {"evaluation_samples": 6},
            {"steps": 11},
            {"precision": "float32"},
            {"schedule": Schedule(frames=3)},
            {"optimizer": Momentum(learning_rate=1.0)},
            {"objective": Contrastive()},
            {"observables": (*RECORD, "rank_me")},
        ]
        for change in others:
            assert len(sizes([plain, replace(plain, **change)])) == 2, change
        assert len(sizes([plain, replace(plain, seeds=7)])) == 1
        views = [make_training(Contrastive(views=kind)) for kind in ("independent", "complementary")]
        assert len(sizes(views)) == 2

    def test_the_compiled_engine_is_a_condition(self, make_training, monkeypatch):
        cells = [make_training(seeds=(1,)), make_training(seeds=(2,))]
        assert sizes(cells) == [2]
        monkeypatch.setattr("vitdyn.kernels.plan._backend", lambda device: torch_backend)
        assert sizes(cells) == [1, 1]


class TestGroups:
    def test_every_row_once_and_every_core_busy(self, cores, make_training):
        cells = [
            make_training(optimizer=GradientDescent(learning_rate=rate), seeds=seeds, sizes=layout)
            for rate, seeds, layout in product((1.0, 2.0, 3.0), (3, (1, 5)), [((6, 5),), ((7, 2, 2),)])
        ]
        rows = sorted((index, seed) for index, cell in enumerate(cells) for seed in cell.seed_numbers)
        for count in (1, 2, 5, 64):
            cores(count)
            groups = split_cells(cells, CPU, CACHE_MIB)
            assert sorted(row for group in groups for row in group.rows) == rows
            assert len(groups) >= min(count, len(rows))
            work = [sum(work_of(replace(cells[cell], seeds=1)) for cell, _ in one.rows) for one in groups]
            assert work == sorted(work, reverse=True)

    def test_too_little_work_is_not_split(self, cores, make_training, monkeypatch):
        """Twelve rows of 11² · 6 multiplications a step: three groups of four where four are worth it."""
        cells = [make_training(seeds=4, optimizer=GradientDescent(learning_rate=rate)) for rate in (1, 2, 3)]
        for least, rows, at_once in ((4, [4, 4, 4], 3), (12, [12], 1), (13, [12], 1)):
            cores(4)
            monkeypatch.setattr("vitdyn.dynamics.memory.LEAST_WORK", least * 11**2 * 6)
            groups = split_cells(cells, CPU, CACHE_MIB)
            assert [len(group.rows) for group in groups] == rows
            assert concurrent_groups(groups) == at_once

    def test_rows_that_draw_alike_stay_side_by_side(self, cores, make_training):
        cores(2)
        cells = [make_training(optimizer=GradientDescent(learning_rate=rate)) for rate in (1.0, 2.0, 3.0)]
        groups = split_cells(cells, CPU, CACHE_MIB)
        assert [group.seeds for group in groups] == [(3, 3, 3), (8, 8, 8)]

    def test_a_single_cell_is_split_as_ever(self, cores, make_training):
        cores(4)
        (group,) = split_cells([make_training(seeds=(9, 2, 4))], CPU, CACHE_MIB)
        assert group.rows == ((0, 9), (0, 2), (0, 4))

    def test_what_cells_draw_alike_is_drawn_once(self, make_training, monkeypatch):
        """γ decides the masks, the distribution the samples; neither learning rate nor temperature is drawn for."""
        layout = make_training().generator.layout
        cells = tuple(
            make_training(
                Contrastive(mask_ratio=ratio, temperature=heat),
                generator=PatchGenerator(layout=layout, latents=distribution),
            )
            for ratio, heat, distribution in product((0.3, 0.5), (0.5, 1.0), (Uniform(), Constant(value=1.0)))
        )
        drawn = {"samples": [], "views": 0}
        sample, views = PatchGenerator.sample, Contrastive.draw_views

        def noting(self, count, seeds, **options):
            drawn["samples"].append(tuple(seeds))
            return sample(self, count, seeds, **options)

        def counting(self, *given):
            drawn["views"] += 1
            return views(self, *given)

        monkeypatch.setattr(PatchGenerator, "sample", noting)
        monkeypatch.setattr(Contrastive, "draw_views", counting)
        rows = tuple((cell, seed) for seed in (3, 8) for cell in range(len(cells)))
        batch, masks = JointSource(ReplicaBatch(cells, rows, CPU)).training(4)
        assert drawn == {"samples": [(3, 8), (3, 8)], "views": 2}
        assert batch.seeds == (3,) * 8 + (8,) * 8
        assert batch.latents.shape[0] == masks[0].shape[0] == 16

    def test_time_is_shared_out_by_work(self, make_training):
        cells = [make_training(seeds=1), make_training(seeds=3), make_training(seeds=1, steps=24)]
        seconds = [one.dataset.attrs["seconds"] for one in simulate_grid(cells)]
        assert seconds[1] == pytest.approx(3 * seconds[0])
        assert seconds[2] == pytest.approx(2 * seconds[0])
