"""Grids that are interrupted, diverge or are asked for wrongly; what each trajectory says of its cell (exact)."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitdyn.attention import Correlations
from vitdyn.dynamics import (
    CheckpointError,
    DivergenceError,
    GradientDescent,
    Momentum,
    simulate,
    simulate_grid,
)
from vitdyn.dynamics.memory import CACHE_MIB, split_cells
from vitdyn.objectives import Contrastive

CPU = torch.device("cpu")


class TestStops:
    def cells(self, make_training):
        return [
            make_training(objective, descent=Momentum(learning_rate=rate), steps=10)
            for objective in ("mae", "cl")
            for rate in (0.3, 1.0)
        ]

    @pytest.mark.parametrize("count", [3, 9, 14])
    def test_an_interrupted_grid_goes_on_to_the_same_bits(
        self, count, tmp_path, cores, make_training, stop_after, identical
    ):
        """On another number of cores, too: the checkpoint knows its groups."""
        cells, path = self.cells(make_training), tmp_path / "deep" / "grid.pt"
        whole = simulate_grid(cells)
        done = stop_after(count, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            simulate_grid(cells, checkpoint=path, checkpoint_seconds=0)
        stored = torch.load(path, weights_only=True)["state"]
        assert sum(state["step"] for state in stored.values()) == len(done) - 1
        cores(4)
        assert len(split_cells(cells, CPU, CACHE_MIB)) == 4 > 2
        resumed = simulate_grid(cells, checkpoint=path)
        assert len(done) == 20 + 1
        for one, other in zip(whole, resumed, strict=True):
            identical(one, other)
        assert not path.exists()

    def test_the_checkpoint_of_another_grid(self, tmp_path, make_training, stop_after):
        cells, path = self.cells(make_training), tmp_path / "grid.pt"
        stop_after(3, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            simulate_grid(cells, checkpoint=path, checkpoint_seconds=0)
        for others in (cells[:3], cells[::-1]):
            with pytest.raises(CheckpointError, match="another specification"):
                simulate_grid(others, checkpoint=path)
        with pytest.raises(CheckpointError, match="another specification"):
            simulate(cells[0], checkpoint=path)

    def test_one_cell_goes_on_from_the_checkpoint_of_simulate(
        self, tmp_path, make_training, stop_after, identical
    ):
        cell, path = make_training(), tmp_path / "run.pt"
        whole = simulate(cell)
        stop_after(5, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            simulate(cell, checkpoint=path, checkpoint_seconds=0)
        (resumed,) = simulate_grid([cell], checkpoint=path)
        identical(whole, resumed)

    def test_a_cell_that_diverges_is_named(self, make_training):
        decay = Contrastive(weight_decay=1e6)
        cells = [
            make_training(
                decay, descent=GradientDescent(learning_rate=rate), precision="float32", seeds=seeds
            )
            for rate, seeds in ((1e-9, (1, 2)), (1e12, (3, 8)))
        ]
        assert len(split_cells(cells, CPU, CACHE_MIB)) == 1
        with pytest.raises(DivergenceError, match=r"\Astep [23], cell 1, seed 3: the correlations"):
            simulate_grid(cells)
        assert np.isfinite(simulate_grid([cells[0]])[0]["loss"]).all()


class TestComplaints:
    def test_no_cell_or_no_sequence(self, make_training, complaint):
        for value in ((), [], make_training()):
            with complaint("trainings", "a sequence of one Training or more"):
                simulate_grid(value)

    def test_what_is_no_training_is_named_by_its_index(self, make_training, complaint):
        with complaint("trainings[1]", "must be a Training"):
            simulate_grid([make_training(), "mae"])

    @pytest.mark.parametrize("field", ["memory_limit_mib", "checkpoint_seconds"])
    def test_bad_limits_are_named(self, field, complaint, make_training):
        with complaint(field, "must be a number"):
            simulate_grid([make_training()], **{field: -1.0})

    def test_a_start_of_other_seeds(self, make_training, complaint):
        training = make_training(seeds=3)
        with complaint("start.seeds", "must be 1 or 3"):
            simulate(training, start=Correlations.zeros(training.generator.layout, 2))


def test_each_seed_has_its_own_start_whatever_its_group(rng, make_training):
    training = make_training(seeds=(4, 1, 6), steps=3)
    start = Correlations.zeros(training.generator.layout, 3)
    start = start.map(lambda block: torch.from_numpy(rng.standard_normal(block.shape)))
    whole, split = simulate(training, start=start), simulate(training, start=start, memory_limit_mib=1e-6)
    for name in whole.dataset:
        np.testing.assert_array_equal(whole[name], split[name], err_msg=str(name))
    np.testing.assert_array_equal(
        simulate(replace(training, steps=0), start=start)["final_position_position"],
        start.position_position,
    )


def test_the_specification_of_each_cell_is_its_own(make_training):
    rates = (0.5, 1.0)
    found = simulate_grid([make_training(descent=GradientDescent(learning_rate=rate)) for rate in rates])
    for rate, trajectory in zip(rates, found, strict=True):
        spec = json.loads(trajectory.dataset.attrs["spec"])
        assert spec["training"]["descent"]["learning_rate"] == rate
        np.testing.assert_array_equal(trajectory["time"], rate * trajectory["step"].to_numpy())


def test_a_grid_without_final_states(make_training):
    (trajectory,) = simulate_grid([make_training()], keep_final_state=False)
    assert not [name for name in trajectory.dataset if str(name).startswith("final_")]
