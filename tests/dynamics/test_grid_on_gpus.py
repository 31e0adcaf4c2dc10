"""Cells of a grid that share a batch on a GPU: steps and frames to the bits that each cell has alone (exact).

Kernels run under Triton's interpreter (TRITON_INTERPRET=0: on a GPU, the last test too).
"""

import os
from dataclasses import replace
from itertools import pairwise, product

os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything loads Triton

import numpy as np
import pytest
import torch

from vitdyn.data import Constant, PatchGenerator
from vitdyn.dynamics import Adam, GradientDescent, Momentum, Runtime, Schedule, simulate, simulate_grid
from vitdyn.dynamics.captured import CudaGraphStepper
from vitdyn.dynamics.device_batches import DeviceBatches
from vitdyn.dynamics.gradient import Workspaces
from vitdyn.dynamics.grid import ReplicaBatch, batches_of_cells
from vitdyn.dynamics.group import fresh_group
from vitdyn.dynamics.joint_batches import JointSource
from vitdyn.dynamics.recorder import frame_of
from vitdyn.dynamics.resources import PRECISIONS
from vitdyn.objectives import MaskedReconstruction, hyperparameter
from vitdyn.objectives.stacked import stack_specs
from vitdyn.observables.observable import observe

pytest.importorskip("triton")
from vitdyn.kernels.cuda import backend as flash

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
DEVICE = CPU if flash.INTERPRETED else CUDA
if DEVICE == CUDA and not torch.cuda.is_available():
    pytest.skip("Triton is loaded without its interpreter, and there is no GPU", allow_module_level=True)

RULES = {
    GradientDescent: [{"learning_rate": 4.0}, {"learning_rate": 0.7}],
    Momentum: [{"learning_rate": 1.0}, {"learning_rate": 0.3, "momentum": 0.4}],
    Adam: [{"learning_rate": 0.1}, {"learning_rate": 0.02, "beta1": 0.5, "beta2": 0.9, "epsilon": 1e-3}],
}
GAMMAS = (0.2, 0.6)


@pytest.fixture
def make_cells(make_training):
    """Four cells of two rules and two mask ratios, with seeds of their own; P = 11, unequal areas, two clusters."""

    def make(kind, **changes):
        settings = zip(product(RULES[kind], GAMMAS), [(3,), (8, 3), (5,), (3,)], strict=True)
        return tuple(
            make_training(
                MaskedReconstruction(mask_ratio=ratio),
                **{"optimizer": kind(**numbers), "seeds": seeds, "precision": "float32"} | changes,
            )
            for (numbers, ratio), seeds in settings
        )

    return make


def rows_of(cells, device, chosen=None):
    rows = [(index, seed) for index, cell in enumerate(cells) for seed in cell.seed_numbers]
    return ReplicaBatch(
        tuple(cells), tuple(rows if chosen is None else [row for row in rows if row[0] == chosen]), device
    )


def device_steps(group, source=None, workspaces=None, fused=None):
    """What ``stepper_of`` does on a GPU, on any device."""
    rows, training = group.rows, group.rows.common
    kind = training.batch_size, PRECISIONS[training.precision], rows.device
    batches = DeviceBatches(training.generator, rows.objective, rows.seeds, *kind)
    return CudaGraphStepper(group, batches, fused)


class TestSteps:
    # inside the kernel, after it, and after plain torch; Momentum has the test below
    @pytest.mark.parametrize(("kind", "fused"), [(GradientDescent, True), (Adam, True), (Adam, False)])
    def test_rows_of_several_cells(self, kind, fused, make_cells):
        """Also by the plain steps, on CPU, where the compiled engine takes seeds one by one."""
        if DEVICE == CUDA and not fused:
            pytest.skip("sums of the torch engine depend on how many seeds there are")
        first, second, *_, last = make_cells(kind, batch_size=5)
        cells = first, replace(last, seeds=second.seeds)  # of another rule and another mask ratio
        groups = [fresh_group(rows_of(cells, DEVICE, chosen), None) for chosen in (None, 0, 1)]
        for group in groups:
            device_steps(group, fused=fused).advance(2)
            assert (group.first_bad == -1).all()
        together, *alone = groups
        for name, block in together.correlations.named().items():
            assert torch.equal(block, torch.cat([group.correlations.named()[name] for group in alone]))
            assert all(abs(one - other).max() > 1e-6 for one, other in pairwise(block))

    def test_a_grid_from_start_to_end(self, make_cells, monkeypatch):
        """With a Constant distribution, frames in between, and a cell that another precision keeps by itself."""
        monkeypatch.setattr("vitdyn.dynamics.loop.stepper_of", device_steps)
        generator = PatchGenerator(
            layout=make_cells(Momentum)[0].generator.layout, latents=Constant(value=1.2)
        )
        clock = Schedule(spacing="explicit", steps=(1,))
        cells = make_cells(Momentum, generator=generator, batch_size=4, steps=2, schedule=clock)[:2]
        cells += (replace(cells[0], precision="float64", seeds=(3,)),)
        for cell, found in zip(cells, simulate_grid(cells, runtime=Runtime(device=DEVICE.type)), strict=True):
            assert found.dataset.equals(simulate(cell, runtime=Runtime(device=DEVICE.type)).dataset)
            assert abs(found["final_position_position"]).max() > 0

    def test_what_is_constant_is_made_once(self):
        """Else a captured graph would read an array that is gone; what changes from step to step is made anew."""
        optimizer = stack_specs([Adam(learning_rate=rate) for rate in (0.1, 0.2)])
        like = torch.zeros(2, 3)

        def place(read):
            return hyperparameter(optimizer, read, like).data_ptr()

        read = [lambda one: -one.learning_rate, lambda one: 1 - one.beta1]
        first, second = (place(one) for one in read)
        assert (first, second) == tuple(place(one) for one in read)
        assert first != second
        factors = [
            hyperparameter(optimizer, lambda one, time=time: 1 - one.beta2**time, like) for time in (1, 2)
        ]
        assert [round(float(factor[0]), 6) for factor in factors] == [0.001, 0.001999]


def test_a_frame_takes_each_cell_by_itself(make_cells, monkeypatch):
    """As arrays of its own, with its own mask ratio, put together in the order of the rows."""
    cells = make_cells(GradientDescent, precision="float64")
    rows = rows_of(cells, CPU)
    spans = [(own.rows, span) for own, span in ReplicaBatch(cells, rows.rows, CUDA).observed]
    assert [span for _, span in spans] == [slice(0, 1), slice(1, 3), slice(3, 4), slice(4, 5)]
    group = fresh_group(rows, None)
    whole = frame_of(group, JointSource(rows), Workspaces())
    vars(rows)["observed"] = [(ReplicaBatch(cells, own, CPU), span) for own, span in spans]
    seen = []

    def noting(state, observables):
        seen.append(state.batch.seeds)
        return observe(state, observables)

    monkeypatch.setattr("vitdyn.dynamics.recorder.observe", noting)
    parts = frame_of(group, JointSource(rows), Workspaces())
    assert seen == [(3,), (8, 3), (5,), (3,)]
    assert parts.keys() == whole.keys()
    for name, values in whole.items():
        np.testing.assert_array_equal(parts[name], values, err_msg=name)


@pytest.mark.skipif(DEVICE != CUDA, reason="no CUDA device here, or Triton is interpreted")
@pytest.mark.parametrize("kind", RULES)
def test_a_grid_on_a_gpu_has_the_bits_of_its_cells(kind, make_cells):
    """Steps as replayed graphs, frames cell by cell."""
    cells = make_cells(kind, steps=150, batch_size=16, evaluation_samples=16, seeds=(1, 5, 9, 2, 7))
    found = simulate_grid(cells, runtime=Runtime(device="cuda"))
    assert batches_of_cells(cells, CUDA) == [(0, 1, 2, 3)]
    for cell, trajectory in zip(cells, found, strict=True):
        alone = simulate(cell, runtime=Runtime(device="cuda"))
        for name in alone.dataset.variables:
            np.testing.assert_array_equal(trajectory[name], alone[name], err_msg=str(name))
