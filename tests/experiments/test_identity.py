"""Stored results are those that are asked for, of today's formulas (exact)."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from vitdyn.data import AreaSizes, PatchGenerator, PatchLayout
from vitdyn.dynamics import Training
from vitdyn.experiments import Experiment, ResultStore, run
from vitdyn.objectives import Contrastive, MaskedReconstruction, Mixture
from vitdyn.reduced import MeanField
from vitdyn.trajectory import FORMULAS, Trajectory

GENERATOR = PatchGenerator(layout=PatchLayout.from_sizes([9, 4, 3], clusters=2))


def trained(objective, **options):
    return Experiment(
        name="run",
        training=Training(
            generator=GENERATOR,
            objective=objective,
            **{"steps": 20, "seeds": (3,), "precision": "float64", **options},
        ),
    )


def flowing(objective, **options):
    sizes = AreaSizes.from_exponents(1e5, 0.9, 0.25)
    return Experiment(
        name="flow", training=MeanField(sizes=sizes, objective=objective, until=0.9, clusters=2, **options)
    )


@pytest.fixture
def kept(tmp_path):
    """A stored result, its store and its file."""
    store, experiment = ResultStore(tmp_path), trained(MaskedReconstruction())
    store(experiment)
    return store, experiment, store.path(experiment)


def rewrite(path, change, **attributes):
    """Write a result again as vitdyn does, checksum and all, with other numbers or attributes."""
    found = Trajectory.load(path)
    dataset = found.dataset.assign(loss=found.dataset["loss"] + change).assign_attrs(attributes)
    replace(found, dataset=dataset).save(path)


def test_a_result_under_anothers_name_is_refused(kept, complaint):
    store, experiment, path = kept
    other = trained(MaskedReconstruction(mask_ratio=0.25))
    shutil.copy(path, store.path(other))
    for ask in (store, lambda each: store.all([each, each])):
        with complaint(
            "path", "another experiment (training.objective.mask_ratio is 0.5, asked for was 0.25)"
        ):
            ask(other)
    with complaint("path", "another experiment (training.kind is 'Training'"):
        shutil.copy(path, store.path(flowing(MaskedReconstruction())))
        store(flowing(MaskedReconstruction()))
    assert store(experiment).dataset.identical(Trajectory.load(path).dataset)


def test_a_renamed_experiment_finds_nothing_and_a_result_that_says_nothing_is_refused(kept, complaint):
    store, experiment, path = kept
    found = Trajectory.load(path)
    about = {name: value for name, value in found.dataset.attrs.items() if name != "experiment"}
    replace(found, dataset=found.dataset.drop_attrs().assign_attrs(about)).save(path)
    with complaint("path", "does not say of which experiment"):
        store(experiment)


@pytest.mark.parametrize(
    ("attributes", "word"),
    [
        ({"formulas": FORMULAS - 1}, f"formulas {FORMULAS - 1}, today's are {FORMULAS}"),
        ({"versions": "vitdyn=0.0.1 torch=2.11"}, "vitdyn 0.0, this is"),
        ({"versions": ""}, "vitdyn unknown, this is"),
    ],
)
def test_a_result_of_other_formulas_is_made_anew_with_a_word(attributes, word, kept):
    store, experiment, path = kept
    right = store(experiment)["loss"]
    rewrite(path, 1.0, **attributes)
    with pytest.raises(ValueError, match=rf"{word}[^\n]*: run without --redraw\Z"):
        replace(store, redraw=True)(experiment)
    with pytest.warns(UserWarning, match=rf"{word}[^\n]*: it is made anew"):
        found = store(experiment)
    assert found["loss"].equals(right) and store(experiment)["loss"].equals(right)


PINNED = {
    "mae": (trained(MaskedReconstruction()), "loss"),
    "cl": (trained(Contrastive(temperature=0.5, weight_decay=0.01)), "loss"),
    "mixture": (trained(Mixture(weight=0.3)), "loss"),
    "content": (trained(Contrastive(), content_queries=True), "loss"),
    "data set": (trained(MaskedReconstruction(), dataset_size=40), "loss"),
    "attention": (trained(MaskedReconstruction()), "own_area_attention"),
    "mae flow": (flowing(MaskedReconstruction()), "time"),
    "cl flow": (flowing(Contrastive()), "time"),
    "mixture flow": (flowing(Mixture(weight=0.3)), "time"),
}
NUMBERS = {
    3: {
        "mae": 0.4240156889329176,
        "cl": 3.2770847943338346,
        "mixture": 0.9926763135580152,
        "content": 3.028067947502139,
        "data set": 0.4248873443975729,
        "attention": 0.9127724961134294,
        "mae flow": 15510.805747648963,
        "cl flow": 11653861.631712362,
        "mixture flow": 1175147616.8445802,
    }
}


@pytest.mark.parametrize("name", PINNED)
def test_the_number_of_the_formulas_stands_for_these_numbers(name):
    """Where this fails on purpose, raise FORMULAS and write the new numbers here: stored results are outdated."""
    experiment, variable = PINNED[name]
    final = run(experiment).final[variable].to_numpy()
    assert float(np.nanmean(final)) == pytest.approx(NUMBERS[FORMULAS][name], rel=1e-7)


def test_json_of_what_is_pinned_says_all():
    texts = {
        json.dumps(json.loads(each.to_json())["training"], sort_keys=True) for each, _ in PINNED.values()
    }
    assert len(texts) == len(PINNED) - 1
