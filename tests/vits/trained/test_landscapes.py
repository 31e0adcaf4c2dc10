"""Landscapes of small Vision Transformers along training: the same bits after an interrupt, and as called directly.

Exact.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vitdyn.claims import Case
from vitdyn.dynamics import CheckpointError, Runtime
from vitdyn.dynamics.checkpoint import write_checkpoint
from vitdyn.experiments import Experiment, ResultStore
from vitdyn.experiments.experiment import reseeded
from vitdyn.landscape import (
    Hessian,
    convex_radius,
    convex_share,
    first_inflection,
    gaussian_direction,
    line_losses,
    normalised,
    section,
    sharpness,
    spectral_density,
    trace,
)
from vitdyn.observables.schedule import Schedule
from vitdyn.plotting import FigureOptions
from vitdyn.plotting.surfaces import draw_surfaces
from vitdyn.vits import Landscape, SmallViT, estimate_seconds, survey
from vitdyn.vits.cost import units
from vitdyn.vits.landscape import OF_SURFACES
from vitdyn.vits.landscape_numbers import TRACE_DRAWS, TRACE_ERROR
from vitdyn.vits.landscape_run import Survey
from vitdyn.vits.loss_surface import fitted_classifier, loss_surface, probe_surface
from vitdyn.vits.pretraining_loop import train

ALWAYS, ANEW = Runtime(checkpoint_seconds=0), Runtime(anew=True)
END = Schedule(frames=2, spacing="linear")


EVERYTHING = {
    "measures": OF_SURFACES,
    "normalisation": "layer",
    "direction_seed": 7,
    "directions": 1,
    "half_width": 0.5,
    "points": 5,
    "epsilon": 0.1,
    "radius": 0.02,
    "lanczos_steps": 4,
    "lanczos_draws": 1,
}


@pytest.fixture
def small(tiny):
    def make(method="reconstruction", **changes):
        return Landscape(training=tiny(method), **{"schedule": END, "images": 8, "measures": ()} | changes)

    return make


@pytest.fixture(scope="module")
def whole():
    kept = {}
    return lambda spec: kept.setdefault(spec, survey(spec))


class Interrupt:
    """Raises KeyboardInterrupt at a call, counted from 0."""

    def __init__(self, call):
        self.left = call

    def __call__(self, work):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def same_numbers(first, second):
    for name, values in first.dataset.data_vars.items():
        np.testing.assert_array_equal(values, second.dataset[name])


# calls: what is done, five steps, what is measured, and for each frame one or more
@pytest.mark.parametrize("call", [0, 2, 5, 6, 7, 8])
def test_an_interrupted_survey_resumes_to_the_same_bits(small, whole, call, tmp_path):
    spec, path, told = small(), tmp_path / "run.checkpoint", []
    with pytest.raises(KeyboardInterrupt):
        survey(spec, checkpoint=path, runtime=ALWAYS, advance=Interrupt(call))
    same_numbers(survey(spec, checkpoint=path, advance=told.append), whole(spec))
    assert not path.exists()
    assert sum(told) == units(spec)


def test_a_frame_that_is_measured_is_not_measured_again(small, tmp_path, monkeypatch):
    spec, path, asked = small(), tmp_path / "run.checkpoint", []
    with pytest.raises(KeyboardInterrupt):
        survey(spec, checkpoint=path, advance=Interrupt(8))

    def counted(self, place):
        asked.append(place)
        return taken(self, place)

    taken = Survey.frame
    monkeypatch.setattr(Survey, "frame", counted)
    survey(spec, checkpoint=path)
    assert asked == [1]


CRAFTED = {
    "kept": lambda state: state | {"kept": state["kept"][:1]},
    "losses": lambda state: state | {"losses": state["losses"][:-1]},
    "machines": lambda state: state | {"machines": [3]},
    "frames": lambda state: state | {"frames": [{}]},
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_checkpoint_that_this_survey_cannot_have_written(small, whole, name, tmp_path):
    spec, path = small(), tmp_path / "run.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        survey(spec, checkpoint=path, advance=Interrupt(8))
    contents = torch.load(path, weights_only=True)
    write_checkpoint(path, contents["spec"], CRAFTED[name](contents["state"]))
    with pytest.raises(CheckpointError, match=rf"\A[^\n]*run.checkpoint[^\n]*{name}[^\n]*--anew[^\n]*\Z"):
        survey(spec, checkpoint=path)
    if name == "frames":
        same_numbers(survey(spec, checkpoint=path, runtime=ANEW), whole(spec))


def test_each_number_is_a_direct_call(tiny):
    """Of the one frame that an untrained encoder has: its probe's."""
    smaller = SmallViT(width=8, depth=1, heads=2, decoder_width=8, decoder_heads=2)
    spec = Landscape(training=tiny("untrained", vit=smaller), loss="probe", images=8, **EVERYTHING)
    found = survey(spec)
    assert found.dataset["step"].values.tolist() == [0]
    surface = probe_surface(spec.training, train(spec.training).learner, images=spec.images)
    first, second = (
        normalised(surface, gaussian_direction(surface, spec.training.seed, 7 + index), "layer")
        for index in range(2)
    )
    downhill = normalised(surface, -surface.gradient(), "layer")
    plane = section(surface, [first, second], np.linspace(-0.5, 0.5, 5))
    reach = {"limit": 0.5, "points": 5}
    hessian, seed = Hessian(surface), spec.training.seed
    spectrum = spectral_density(hessian, draws=1, steps=4, seed=seed)
    summed = trace(hessian, relative_error=TRACE_ERROR, most_draws=TRACE_DRAWS, seed=seed)
    wanted = {
        "loss": surface.value(),
        "parameter_norm": surface.point.norm().item(),
        "highest_eigenvalue": spectrum.bounds[1],
        "lowest_eigenvalue": spectrum.bounds[0],
        "hessian_trace": summed.value,
        "hessian_trace_error": summed.error,
        "density_node": [*spectrum.nodes, *[np.nan] * (512 - len(spectrum.nodes))],
        "density_weight": [*spectrum.weights, *[0.0] * (512 - len(spectrum.nodes))],
        "line_loss": line_losses(surface, [first], 0.5, 5),
        "convex_share": convex_share(plane, epsilon=0.1),
        "convex_radius": [
            convex_radius(surface, each, epsilon=0.1, **reach).value for each in (first, downhill)
        ],
        "first_inflection": [first_inflection(surface, each, **reach).value for each in (first, downhill)],
        "sharpness": sharpness(surface, 0.02, seed=spec.training.seed).value,
    }
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name][0, 0], value)


def test_the_path_lies_where_its_planes_say(small, whole):
    spec = small(schedule=Schedule(frames=3, spacing="linear"), final_points=5)
    found, run = whole(spec), train(spec.training, keep=spec.steps)
    surface = loss_surface(spec.training, run.learner, images=spec.images)
    apart = [surface.vector(each).double() - surface.point for each in run.kept]
    # three points lie in their own plane, and are far from a random one
    distances = found["path_distance"][:, 0].sel(plane="principal").values
    np.testing.assert_allclose(distances, 0.0, atol=1e-12)
    assert (found["path_distance"][:2, 0].sel(plane="random") > 0).all()
    lengths = found["path_coordinate"][:, 0].sel(plane="principal").values
    np.testing.assert_allclose((lengths**2).sum(1), [each.square().sum().item() for each in apart])
    centre = found["section_loss"][0].sel(plane="random").values[2, 2]
    assert centre == found["loss"][-1, 0]


def test_a_frame_is_of_the_training_at_its_step(small, whole):
    """The second of three frames, of the learner that training for so many steps has then."""
    spec = small(schedule=Schedule(spacing="explicit", steps=(2,)))
    found = whole(spec)
    assert found.dataset["step"].values.tolist() == [0, 2, 5]
    run = train(spec.training, keep=spec.steps)
    for frame, state in enumerate(run.kept):
        run.learner.load_state_dict(state)
        surface = loss_surface(spec.training, run.learner, images=spec.images)
        assert found["loss"][frame, 0] == surface.value()
        assert found["gradient_norm"][frame, 0] == surface.gradient().norm().item()
        ahead = surface.vector(run.kept[-1]).double() - surface.point
        assert found["distance_to_end"][frame, 0] == ahead.norm().item()
    np.testing.assert_array_equal(found["training_loss"][0], run.losses)


def test_landscapes_are_experiments(small, whole, tmp_path, capsys):
    spec = small("simclr")
    asked = [Experiment(name="one", training=each) for each in (spec, small())]
    assert Experiment.from_json(asked[0].to_json()) == asked[0]
    assert asked[0].key != replace(asked[0], training=replace(spec, images=9)).key
    store = ResultStore(tmp_path, workers=1, runtime=Runtime(progress=True))
    found = store.all(asked)
    assert "2 trainings, about" in capsys.readouterr().out
    same_numbers(found[0], whole(spec))
    assert Case.of(asked[0]).basis == "small Vision Transformers"
    assert Case.of(asked[0]).landscapes == (spec,)
    assert reseeded(asked[0], 2).training.training.seed == 2003
    assert 0 < estimate_seconds([spec]) < estimate_seconds([replace(spec, images=800)])


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("training", {"training": "mae"}),
        ("schedule", {"schedule": 3}),
        ("Schedule.steps", {"schedule": Schedule(spacing="explicit", steps=(6,))}),
        ("loss", {"loss": "training"}),
        ("images", {"images": 1}),
        ("measures", {"measures": ("hessian",)}),
        ("measures", {"measures": "section"}),
        ("measures", {"measures": ("correction",)}),
        ("normalisation", {"normalisation": "filter"}),
        ("points", {"points": 4}),
        ("lanczos_steps", {"lanczos_steps": 200, "lanczos_draws": 3}),
        ("radius", {"radius": 0.0}),
        ("epsilon", {"epsilon": 1.0}),
        ("final_points", {"final_points": 5}),
    ],
)
def test_bad_landscapes_are_named(small, field, changes, complaint):
    with complaint(field):
        replace(small(), **changes)


def test_what_cannot_be_surveyed_is_named(small, tiny, complaint):
    with complaint("loss", "untrained"):
        Landscape(training=tiny("untrained"))
    with complaint("spec"):
        survey(small().training)
    with complaint("specs[1]", "Landscape"):
        estimate_seconds([small(), None])
    theory = Experiment(name="a", training=small().training)
    with complaint("Case.runs", "landscapes"):
        _ = Case.of(theory).landscapes


@pytest.mark.parametrize("over", ["encoder", "both"])
def test_a_probes_loss_has_the_derivatives_of_differences(tiny, over):
    spec = tiny()
    learner = train(spec).learner
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    surface = probe_surface(spec, learner, over=over, images=16)
    assert ("heads.classifier.bias" in surface.parameters) is (over == "both")
    drawn = torch.randn(surface.dimension, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    along = 1e-4 * drawn / drawn.norm()
    ahead, behind = surface.gradient(along), surface.gradient(-along)
    product = Hessian(surface) @ along
    assert (product - (ahead - behind) / 2).norm() < 1e-6 * product.norm()
    slope = (surface.value(along) - surface.value(-along)) / 2
    assert slope == pytest.approx((surface.gradient() @ along).item(), rel=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    assert probe_surface(spec, learner, over=over, images=16).value() == surface.value()


def test_a_probe_is_the_minimum_of_its_loss_with_the_penalty(tiny):
    spec = tiny("untrained")
    learner, images = train(spec).learner.double(), spec.images.load()
    fitted = fitted_classifier(spec, learner, penalty=0.1)
    features = learner.read(images.standardised(images.train)).detach()
    loss = torch.nn.functional.cross_entropy(fitted(features), images.train_labels)
    (loss + 0.05 * (fitted.weight * features.std(0)).square().sum()).backward()
    # weights in units of the features' deviations, as the penalty has them
    assert (fitted.weight.grad / features.std(0)).abs().max() < 1e-5
    assert fitted.bias.grad.abs().max() < 1e-5


def test_the_script_of_surfaces_surveys_prints_draws_and_redraws(small, load, run_twice):
    module = load("23_surfaces")
    every = module.runs(FigureOptions(full=True))
    assert [len(each) for each in every.values()] == [3, 3]

    def few(options):
        shown = {"MAE": "reconstruction", "supervised": "supervised"}
        asked = {
            name: small(method, schedule=Schedule(frames=3, spacing="linear"), final_points=4)
            for name, method in shown.items()
        }
        return {module.STEM: {name: Experiment(name=name, training=each) for name, each in asked.items()}}

    printed, (stem, rows), results = run_twice(module, few)
    assert "off the path" in printed and results == 2 and stem == module.STEM
    # of each: two sections of 4 x 4 points, two paths, three losses and two distances but for that of the end
    assert len(rows) == 2 * (2 * 16 + 2 * 3 + 3 * 3 + 2 * 2)
    with pytest.raises(ValueError, match=r"bare.*no planes.*final_points"):
        draw_surfaces({"bare": survey(small())})
