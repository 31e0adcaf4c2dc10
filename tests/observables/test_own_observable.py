"""An observable of one's own: recorded, saved, resumed, in a grid, in JSON; refused where it is none (exact)."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import vitdyn as vd
from vitdyn.experiments import ResultStore
from vitdyn.observables import RECORD, Observable

LAYOUT = vd.PatchLayout.from_sizes([[7, 5, 4], [9, 4, 2, 1]])
TRAINING = vd.Training(
    generator=vd.PatchGenerator(layout=LAYOUT),
    objective=vd.MaskedReconstruction(),
    steps=8,
    batch_size=4,
    evaluation_samples=6,
    seeds=(3, 8),
    schedule=vd.Schedule(spacing="explicit", steps=(2, 5)),
)


def entropy(state):
    maps = state.maps(slice(0, 3))
    return -torch.xlogy(maps, maps).sum(-1).mean((1, 2))


def top_scores(state):
    """The largest key scores of each seed's first image, with the number of keys as an axis of its own."""
    scores = state.maps(slice(0, 1)).mean((1, 2)).sort(-1, descending=True).values
    return torch.stack([scores[:, :top].mean(-1) for top in (1, 5)], -1)


ENTROPY = Observable(
    name="entropy", compute=entropy, symbol="H", meaning="entropy of a query's attention, nats"
)
SCORES = Observable(name="scores", compute=top_scores, axes=("seed", "top"), coordinates={"top": (1, 5)})
OWN = replace(TRAINING, observables=(*RECORD, ENTROPY, SCORES, "gradient_norm", "step_gradient_norm"))


class InterruptedRunError(Exception):
    pass


@pytest.fixture(scope="module")
def recorded():
    return vd.simulate(OWN)


def test_it_is_recorded_beside_what_was_recorded_before(recorded):
    plain = vd.simulate(TRAINING)
    for name in plain.dataset.variables:
        np.testing.assert_array_equal(plain[name], recorded[name])
    assert recorded["entropy"].dims == ("frame", "seed") and recorded["entropy"].attrs["symbol"] == "H"
    assert recorded["scores"].dims == ("frame", "seed", "top") and recorded["scores"][
        "top"
    ].values.tolist() == [1, 5]
    # at Q = 0 attention is uniform over all positions
    np.testing.assert_allclose(recorded["entropy"][0], np.log(16), rtol=1e-6)
    np.testing.assert_allclose(recorded["scores"][0], 1 / 16, rtol=1e-6)
    assert (recorded["entropy"][-1] < recorded["entropy"][0]).all()


def test_it_reads_the_loss_of_a_mixture_seed_by_seed():
    """A part of a mixture sees its own views alone, also of one seed's state."""
    own = Observable(name="own_loss", compute=lambda state: state.loss)
    found = vd.simulate(replace(TRAINING, objective=vd.Mixture(), observables=("loss", own)))
    np.testing.assert_array_equal(found["own_loss"], found["loss"])


def test_gradient_norms_are_those_of_the_steps(recorded):
    """Of gradient descent: what a step moves, over the learning rate."""
    series = recorded["step_gradient_norm"]
    assert series.dims == ("seed", "training_step") and series["training_step"].values.tolist() == list(
        range(8)
    )
    assert recorded["gradient_norm"].dims == ("frame", "seed")
    ends = [
        vd.simulate(replace(TRAINING, steps=steps, schedule=vd.Schedule(spacing="explicit")))
        for steps in (4, 5)
    ]
    moved = [ends[1][name] - ends[0][name] for name in ("final_feature_position", "final_position_position")]
    norm = (
        np.sqrt(sum((block.to_numpy().reshape(2, -1) ** 2).sum(1) for block in moved))
        / TRAINING.resolved_optimizer.learning_rate
    )
    np.testing.assert_allclose(series[:, 4], norm, rtol=1e-4)


def test_a_seed_does_not_depend_on_its_neighbours_nor_on_its_grid(recorded):
    alone = vd.simulate(replace(OWN, seeds=(8,)))
    cells = [
        OWN,
        replace(OWN, objective=vd.MaskedReconstruction(mask_ratio=0.25)),
        replace(OWN, seeds=(5, 8)),
    ]
    grid = vd.simulate_grid(cells)
    for name in ("entropy", "scores", "gradient_norm", "step_gradient_norm"):
        np.testing.assert_array_equal(alone[name], recorded[name].sel(seed=[8]), err_msg=name)
        np.testing.assert_array_equal(grid[0][name], recorded[name], err_msg=name)
        np.testing.assert_array_equal(grid[2][name].sel(seed=8), recorded[name].sel(seed=8), err_msg=name)
        assert not np.array_equal(grid[1][name], recorded[name])


def test_it_is_saved_loaded_and_resumed_to_the_same_bits(recorded, tmp_path, monkeypatch):
    path = recorded.save(tmp_path / "result.nc")
    assert vd.Trajectory.load(path).dataset.identical(recorded.dataset)
    runtime = vd.Runtime(checkpoint_seconds=0.0)

    def until_step_6(group, gradient, forward, record=vd.dynamics.steppers.record_step):
        if group.step == 6:
            raise InterruptedRunError
        record(group, gradient, forward)

    with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
        patch.setattr("vitdyn.dynamics.steppers.record_step", until_step_6)
        vd.simulate(OWN, checkpoint=tmp_path / "state", runtime=runtime)
    assert (tmp_path / "state").is_file()
    resumed = vd.simulate(OWN, checkpoint=tmp_path / "state", runtime=runtime)
    for name in recorded.dataset.variables:
        np.testing.assert_array_equal(resumed[name], recorded[name], err_msg=str(name))


def test_the_key_and_the_store_know_it(tmp_path):
    def experiment(*observables):
        return vd.Experiment(name="own", training=replace(TRAINING, observables=observables))

    def other(state):
        return 2 * entropy(state)

    keys = {
        experiment(*which).key
        for which in (RECORD, (*RECORD, ENTROPY), ("loss",), (*RECORD, replace(ENTROPY, compute=other)))
    }
    assert len(keys) == 4
    asked = experiment("loss", ENTROPY)
    found = ResultStore(tmp_path)(asked)
    assert set(found.dataset.data_vars) >= {"loss", "entropy"} and "area_attention" not in found.dataset
    assert ResultStore(tmp_path, redraw=True)(asked).dataset.identical(
        vd.Trajectory.load(ResultStore(tmp_path).path(asked)).dataset
    )
    strange = experiment(replace(ENTROPY, compute=lambda state: torch.rand(len(state.batch.seeds))))
    assert "draws" in strange.unnamed or "random" in strange.unnamed


@pytest.mark.usefixtures("registering")
def test_json_holds_names_and_rebuilds_what_is_registered(complaint):
    asked = vd.Experiment(name="own", training=replace(TRAINING, observables=("loss", ENTROPY)))
    written = json.loads(asked.to_json())["training"]["observables"]
    assert written[0] == {"kind": "Observable", "name": "loss"} and written[1]["compute"]["code"]
    with complaint("function", "build the spec in Python"):
        vd.Experiment.from_json(asked.to_json())
    vd.register(ENTROPY)
    assert vd.Experiment.from_json(asked.to_json()) == asked
    assert replace(TRAINING, observables=("entropy",)).observables == (ENTROPY,)
    vd.register(replace(ENTROPY, compute=top_scores))
    with complaint("function"):
        vd.Experiment.from_json(asked.to_json())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "loss"}, "is the name of two"),
        ({"name": "step"}, "something else that a trajectory holds"),
        ({"name": "area"}, "something else that a trajectory holds"),
        ({"name": "final_loss"}, "something else that a trajectory holds"),
        ({"name": "a b"}, "must be a name"),
        ({"axes": ("frame",)}, 'must begin with "seed"'),
        ({"axes": ("seed", "seed")}, "no axis twice"),
        ({"axes": ("seed", "depth")}, "give its values in coordinates"),
        ({"axes": ("seed", "loss"), "coordinates": {"loss": (1, 2)}}, "something else in this run"),
        ({"axes": ("seed", "area"), "coordinates": {"area": (1, 2)}}, "an axis of its own"),
        ({"axes": ("seed", "top"), "coordinates": {"top": ()}}, "numbers or texts"),
        ({"compute": 3}, "must be a function"),
        ({"compute": lambda state: 1.0}, "must be a tensor of real numbers of shape (1,): seed"),
        ({"compute": lambda state: torch.ones(3)}, "(3,) torch.float32"),
        ({"compute": lambda state: torch.ones(1, dtype=torch.int64)}, "(1,) torch.int64"),
        ({"compute": lambda state: torch.full((1,), torch.nan)}, "declare may_be_missing=True"),
        ({"compute": lambda state: torch.ones(3), "each_step": True}, "must be a tensor of real numbers"),
    ],
)
def test_what_is_no_observable_is_refused_in_a_line(changes, words):
    with pytest.raises(ValueError) as caught:
        vd.simulate(replace(TRAINING, observables=(*RECORD, replace(ENTROPY, **changes))))
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert str(changes.get("name", "entropy")) in str(caught.value)


def test_what_may_be_missing_is_recorded_as_it_is():
    missing = replace(ENTROPY, compute=lambda state: torch.full((1,), torch.nan), may_be_missing=True)
    assert vd.simulate(replace(TRAINING, observables=(missing,)))["entropy"].isnull().all()


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ("loss", "observables"),
        ((3,), "observables[0]"),
        (("entropi",), "observables[0]"),
        (None, "observables"),
    ],
)
def test_what_names_no_observables_is_refused(given, field, complaint):
    with complaint(field):
        replace(TRAINING, observables=given)
