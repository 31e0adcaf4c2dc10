"""What holds of every listed objective, with all that it carries: its twin in R^d, seeds, interruptions, grids.

Exact: the twin to round-off of float64, all else to the bit.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import CASES
from dense import Twin

from vitdyn.data import PatchGenerator, PatchLayout, Uniform
from vitdyn.dynamics import Schedule, Training, simulate, simulate_grid
from vitdyn.dynamics.memory import CACHE_MIB, split_cells
from vitdyn.objectives import contract

EACH = pytest.mark.parametrize("name", CASES)
PATCHWISE = {"mae", "simmim", "beit", "u-mae", "mixture", "data2vec", "i-jepa", "rc-mae", "ibot", "cmae"}
SIZES = [(5, 3, 1), (6, 3), (2, 4, 3)]


def training_of(name, clusters=2, **changes):
    layout = PatchLayout.from_sizes(SIZES[:clusters], seed=2)
    small = {
        "generator": PatchGenerator(layout=layout, latents=Uniform(low=0.5, high=1.5)),
        "steps": 5,
        "batch_size": 4,
        "evaluation_samples": 4,
        "seeds": (3, 8),
        "observables": ("loss",),
        "schedule": Schedule(spacing="linear", frames=2),
        "precision": "float64",
    }
    return Training(objective=CASES[name].objective, **small | changes)


@pytest.fixture
def last_state(monkeypatch):
    """What the objective carries after the last step of a run."""
    kept, after = {}, contract.next_state

    def keeping(*given):
        kept.update(after(*given))
        return {name: value.clone() for name, value in kept.items()}

    monkeypatch.setattr("vitdyn.dynamics.steppers.next_state", keeping)
    return kept


@EACH
@pytest.mark.parametrize("clusters", [1, 2, 3])
def test_training_is_that_of_a_matrix_in_feature_space(name, clusters, last_state, close):
    # 20 steps for what is carried from one to the next; else one formula is tested three times
    training = training_of(name, clusters, steps=20 if clusters == 2 else 4, seeds=(3,))
    final, twin = simulate(training).dataset, Twin(training, CASES[name], 3).train()
    assert twin.matrix.abs().max() > 1e-3
    for block, value in twin.correlations(twin.matrix).items():
        close(torch.from_numpy(final[f"final_{block}"].to_numpy()[0]), value)
    expected = dict(twin.state)
    if CASES[name].momentum is not None:
        blocks = twin.correlations(twin.teacher).items()
        expected |= {f"teacher.{block}": value for block, value in blocks}
    assert expected.keys() == last_state.keys() - {"teacher_steps"}
    for part, value in expected.items():
        close(last_state[part][0], value)


@EACH
def test_a_seed_keeps_its_bits_alone_and_through_an_interruption(name, tmp_path, interrupted):
    training, path = training_of(name), tmp_path / "run.pt"
    whole = simulate(training).dataset
    alone = simulate(replace(training, seeds=(8,))).dataset
    for variable, values in whole.items():
        one = values.isel(seed=[1]) if "seed" in values.dims else values
        np.testing.assert_array_equal(one, alone[variable], err_msg=variable)

    interrupted(training, path, at=4)
    assert path.exists()
    assert simulate(training, checkpoint=path).dataset.equals(whole)


@EACH
def test_cells_of_a_grid_train_in_one_batch_to_their_own_bits(name):
    """Each field that varies, alone: else a formula that reads one past ``hyperparameter`` could hide."""
    case, training = CASES[name], training_of(name, seeds=(3,))
    assert case.other.keys() == set(case.objective.batchable_fields)
    cells = [training]
    for field, value in case.other.items():
        cells.append(replace(training, objective=replace(case.objective, **{field: value})))
    assert len(split_cells(cells, torch.device("cpu"), CACHE_MIB)) == 1
    ends = []
    for cell, found in zip(cells, simulate_grid(cells), strict=True):
        assert found.dataset.equals(simulate(cell).dataset)
        ends.append(found["final_feature_position"].to_numpy())
    assert all(abs(a - b).max() > 1e-9 for i, a in enumerate(ends) for b in ends[i + 1 :])


@EACH
def test_rows_of_q_stay_equal_iff_the_loss_sees_pooled_outputs_alone(name):
    """Whatever is carried: a teacher's rows are equal too, and a queue, a centre or prototypes know of no patch."""
    rows = simulate(training_of(name, seeds=(3,)))["final_feature_position"].to_numpy()[0]
    apart = abs(rows - rows.mean(0)).max() / abs(rows).max()
    assert apart > 1e-3 if name in PATCHWISE else apart < 1e-12
