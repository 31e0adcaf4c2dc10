"""Grids that are interrupted, diverge or are asked for wrongly; what each trajectory says of its cell (exact)."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitdyn.dynamics import (
    CheckpointError,
    DivergenceError,
    GradientDescent,
    Momentum,
    Runtime,
    simulate,
    simulate_grid,
)
from vitdyn.dynamics.memory import CACHE_MIB, split_cells
from vitdyn.models import Correlations
from vitdyn.objectives import Contrastive

CPU = torch.device("cpu")
EVERY_STEP = Runtime(checkpoint_seconds=0)


class TestStops:
    def cells(self, make_training):
        return [
            make_training(objective, optimizer=Momentum(learning_rate=rate), steps=10)
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
            simulate_grid(cells, checkpoint=path, runtime=EVERY_STEP)
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
            simulate_grid(cells, checkpoint=path, runtime=EVERY_STEP)
        with pytest.raises(CheckpointError, match="another specification"):
            simulate_grid(cells[:3], checkpoint=path)
        with pytest.raises(CheckpointError, match="another specification"):
            simulate(cells[0], checkpoint=path)

    def test_one_cell_goes_on_from_the_checkpoint_of_simulate(
        self, tmp_path, make_training, stop_after, identical
    ):
        cell, path = make_training(), tmp_path / "run.pt"
        whole = simulate(cell)
        stop_after(5, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            simulate(cell, checkpoint=path, runtime=EVERY_STEP)
        (resumed,) = simulate_grid([cell], checkpoint=path)
        identical(whole, resumed)

    @pytest.mark.parametrize("count", [3, 14])
    def test_cells_are_added_to_an_interrupted_grid(
        self, count, tmp_path, make_training, stop_after, identical
    ):
        """In another order, too: those that had begun go on, to the same bits, and the new ones begin."""
        cells, path = self.cells(make_training), tmp_path / "grid.pt"
        more = [make_training(optimizer=Momentum(learning_rate=0.7), steps=10), *cells[::-1]]
        whole = simulate_grid(more)
        done = stop_after(count, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            simulate_grid(cells, checkpoint=path, runtime=EVERY_STEP)
        resumed = simulate_grid(more, checkpoint=path)
        assert len(done) == 20 + 1 + 10
        for one, other in zip(whole, resumed, strict=True):
            identical(one, other)
        assert not path.exists()

    @pytest.mark.parametrize("count", [3, 14, 20])
    def test_a_file_for_each_cell(self, count, tmp_path, make_training, stop_after, identical):
        """Cells go on by themselves, or in another grid; what trained together and is as far still does."""
        cells = self.cells(make_training)
        files = [tmp_path / f"{index}.pt" for index in range(5)]
        whole = simulate_grid([*cells, make_training(optimizer=Momentum(learning_rate=0.7), steps=10)])
        done = stop_after(count, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            simulate_grid(cells, checkpoint=files[:4], runtime=EVERY_STEP)
        begun = [index for index, path in enumerate(files) if path.exists()]
        assert begun == ([0, 1] if count == 3 else [0, 1, 2, 3])
        identical(simulate(cells[0], checkpoint=files[0]), whole[0])
        alone = len(done)
        more = [cells[3], cells[2], cells[1], make_training(optimizer=Momentum(learning_rate=0.7), steps=10)]
        resumed = simulate_grid(more, checkpoint=[files[index] for index in (3, 2, 1, 4)])
        for one, other in zip(resumed, (whole[3], whole[2], whole[1], whole[4]), strict=True):
            identical(one, other)
        left = {3: 8 + 10 + 10, 14: 7 + 10, 20: 1 + 10}
        assert len(done) - alone == left[count] and list(tmp_path.iterdir()) == []

    def test_files_that_are_not_one_for_each_cell(self, tmp_path, make_training, complaint):
        cells = self.cells(make_training)
        for files in ([tmp_path / "a.pt"], [tmp_path / "a.pt"] * 4):
            with complaint("checkpoint", "one for each cell"):
                simulate_grid(cells, checkpoint=files)


class TestDivergence:
    @pytest.fixture
    def cells(self, make_training):
        """Cells of one batch, the second and the last of which diverge, and one of another."""
        rates = (1e-9, 1e12, 2e-9, 1e12)
        found = [
            make_training(
                Contrastive(weight_decay=1e6),
                optimizer=GradientDescent(learning_rate=rate),
                precision="float32",
                seeds=(index, 8, 9),
            )
            for index, rate in enumerate(rates)
        ]
        found.insert(3, make_training("mae", seeds=(3, 8), steps=30))
        assert len(split_cells(found, CPU, CACHE_MIB)) == 2
        return found

    def test_all_others_are_finished_and_those_that_diverge_are_named(self, cells, identical):
        with pytest.raises(DivergenceError) as caught:
            simulate_grid(cells)
        assert re.fullmatch(
            r"step [23], cell 1, seed 1; step [23], cell 4, seed 3: the parameters are not finite; "
            r"take a smaller learning rate or precision='float64'",
            str(caught.value),
        )
        found = caught.value.trajectories
        assert [trajectory is None for trajectory in found] == [False, True, False, False, True]
        for index in (0, 2, 3):
            identical(found[index], simulate(cells[index]))

    def test_groups_of_a_cell_that_diverges_stop_too(self, cells, identical):
        with pytest.raises(DivergenceError, match="cell 1, seed") as caught:
            simulate_grid(cells, runtime=Runtime(memory_limit_mib=1e-6))
        for index in (0, 2, 3):
            identical(caught.value.trajectories[index], simulate(cells[index]))

    @pytest.mark.parametrize("several", [False, True])
    def test_the_others_are_not_trained_again(self, several, cells, tmp_path, stop_after, identical):
        """Their state is kept until the caller has saved them, also where the one that diverges is left out."""
        files = [tmp_path / f"{index}.pt" for index in range(5)] if several else tmp_path / "grid.pt"
        with pytest.raises(DivergenceError) as caught:
            simulate_grid(cells, checkpoint=files, runtime=EVERY_STEP)
        good = [0, 2, 3]
        done = stop_after(10**6, KeyboardInterrupt)
        with pytest.raises(DivergenceError):
            simulate_grid(cells, checkpoint=files)
        assert len(done) <= 3
        if several:
            before = len(done)
            for index in good:
                again = simulate(cells[index], checkpoint=files[index])
                identical(again, caught.value.trajectories[index])
            assert len(done) == before

    def test_a_single_run_says_where(self, cells):
        with pytest.raises(DivergenceError, match=r"\Astep [23], seed 1: the parameters") as caught:
            simulate(cells[1])
        assert caught.value.trajectories == ()


class TestComplaints:
    def test_no_cell_or_no_sequence(self, make_training, complaint):
        for value in ((), [], make_training()):
            with complaint("trainings", "must be a sequence of"):
                simulate_grid(value)

    def test_what_is_no_training_is_named_by_its_index(self, make_training, complaint):
        with complaint("trainings[1]", "must be a Training"):
            simulate_grid([make_training(), "mae"])

    def test_a_start_of_other_seeds(self, make_training, complaint):
        training = make_training(seeds=3)
        with complaint("start.seeds", "must be 1 or 3"):
            simulate(training, start=Correlations.zeros(training.generator.layout, 2))


def test_each_seed_has_its_own_start_whatever_its_group(rng, make_training):
    training = make_training(seeds=(4, 1, 6), steps=3)
    start = Correlations.zeros(training.generator.layout, 3)
    start = start.map(lambda block: torch.from_numpy(rng.standard_normal(block.shape)))
    whole = simulate(training, start=start)
    split = simulate(training, start=start, runtime=Runtime(memory_limit_mib=1e-6))
    for name in whole.dataset:
        np.testing.assert_array_equal(whole[name], split[name], err_msg=str(name))
    np.testing.assert_array_equal(
        simulate(replace(training, steps=0), start=start)["final_position_position"],
        start.position_position,
    )


def test_the_specification_of_each_cell_is_its_own(make_training):
    rates = (0.5, 1.0)
    found = simulate_grid([make_training(optimizer=GradientDescent(learning_rate=rate)) for rate in rates])
    for rate, trajectory in zip(rates, found, strict=True):
        spec = json.loads(trajectory.dataset.attrs["spec"])
        assert spec["training"]["optimizer"]["learning_rate"] == rate
        np.testing.assert_array_equal(trajectory["time"], rate * trajectory["step"].to_numpy())


def test_a_grid_without_final_states(make_training):
    (trajectory,) = simulate_grid([make_training()], runtime=Runtime(keep_final_state=False))
    assert not [name for name in trajectory.dataset if str(name).startswith("final_")]
