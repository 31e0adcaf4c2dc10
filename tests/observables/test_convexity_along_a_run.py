"""Numbers of the landscape along runs of the layer (exact): what is recorded is what the functions find."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import vitdyn as vd
from vitdyn.cli import catalogue
from vitdyn.landscape import Neighbourhood, convex_radius, gaussian_direction, normalised, sharpness
from vitdyn.landscape.neighbourhood import NUMBERS
from vitdyn.observables.catalogue import LANDSCAPE
from vitdyn.observables.convexity import Convexity, convexity_observables
from vitdyn.observables.loss_surface import loss_surface

FEW = Neighbourhood(points=3)


@pytest.fixture(scope="module")
def training():
    layout = vd.PatchLayout.from_sizes([[4, 3, 2]])
    return vd.Training(
        generator=vd.PatchGenerator(layout=layout),
        objective=vd.Contrastive(),
        steps=6,
        batch_size=4,
        evaluation_samples=6,
        seeds=(3, 8),
        schedule=vd.Schedule(frames=2),
        observables=("loss", *convexity_observables(FEW)),
    )


def test_a_run_records_what_the_functions_find_and_a_seed_does_not_depend_on_its_neighbours(training):
    found = {}

    def look(state):
        if state.step:
            surface = loss_surface(state)
            drawn = [normalised(surface, gaussian_direction(surface, 8, index)) for index in (0, 1)]
            radii = [convex_radius(surface, each, points=3).value for each in drawn]
            found[state.batch.seeds] = [*radii, sharpness(surface, 0.05, seed=8).value]
            # a run in single precision, and its surface in double
            assert state.parameters.position_position.dtype == torch.float32 != surface.point.dtype
            assert surface.value() == pytest.approx(float(state.loss), rel=1e-5)
        return state.loss

    observables = (*training.observables, vd.Observable(name="look", compute=look))
    both = vd.simulate(replace(training, observables=observables))
    for name in NUMBERS:
        assert both[name].isel(frame=0).isnull().all()  # Q = 0 has filters of no length
        assert np.isfinite(both[name][1]).all()
    last = both.final.sel(seed=8)
    assert last["convex_radius"]["direction"].values.tolist() == ["0", "1", "downhill"]
    assert [*last["convex_radius"].values[:2], float(last["sharpness"])] == found[(8,)]
    alone = vd.simulate(replace(training, seeds=(8,)))
    for name in NUMBERS:
        np.testing.assert_array_equal(alone[name], both[name].sel(seed=[8]))


def test_they_go_by_their_names_and_through_json(training):
    experiment = vd.Experiment(name="own", training=replace(training, observables=("loss", *NUMBERS)))
    assert vd.Experiment.from_json(experiment.to_json()) == experiment
    assert [each.name for each in experiment.training.observables[1:]] == list(NUMBERS)
    assert LANDSCAPE.keys() >= NUMBERS.keys()
    described = {each.name: each.text for each in catalogue.metrics()}
    assert described.items() >= {name: each.meaning for name, each in LANDSCAPE.items()}.items()


def test_a_model_that_is_not_finite_has_none(training):
    seen = []

    def look(state):
        spoilt = replace(state, parameters=state.parameters.map(lambda block: block * torch.nan))
        seen.extend(each.of(spoilt) for each in LANDSCAPE.values())
        return state.loss

    vd.simulate(replace(training, steps=0, observables=("loss", vd.Observable(name="look", compute=look))))
    assert len(seen) == 2 * len(LANDSCAPE) and all(each.isnan().all() for each in seen)


def test_bad_numbers_are_refused(complaint):
    with complaint("Convexity.name", "must be one of"):
        Convexity(name="width")
    for name in ("directions", "half_width", "points", "radius", "epsilon", "normalisation", "first"):
        with complaint(f"Neighbourhood.{name}"):
            Neighbourhood(**{name: -1})
