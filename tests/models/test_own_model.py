"""A theorist's own model: one class, and the whole machinery works with it (exact)."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

import vitdyn as vd
from vitdyn.dynamics.gradient import loss_gradient
from vitdyn.experiments.experiment import reseeded

GENERATOR = vd.PatchGenerator(layout=vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5, clusters=2))


@dataclass(frozen=True, kw_only=True)
class ScaledValues(vd.OneLayer):
    """The theory's layer with a trained value for each area."""

    pace: float = 0.1

    def initial(self, generator, streams, like):
        layer = super().initial(generator, streams, like)
        return vd.Parameters(**layer.named(), gains=like.new_zeros(layer.seeds, generator.feature_count))

    def outputs(self, parameters, batch, visible):
        values = 1 + self.pace * parameters.gains
        return values[:, None, None] * super().outputs(parameters, batch, visible)


@dataclass(frozen=True, kw_only=True)
class Cold(vd.OneLayer):
    """The theory's layer at another temperature, by its area attention alone."""

    temperature: float = 1.0

    def area_attention(self, parameters, batch, visible):
        return super().area_attention(parameters.map(lambda block: block / self.temperature), batch, visible)


@dataclass(frozen=True, kw_only=True)
class DrawnMixture(vd.Model):
    """Every query is given what is shown, by weights that are drawn for each seed; there are no attention maps."""

    scale: float = 0.1

    def initial(self, generator, streams, like):
        patches = generator.layout.patches
        drawn = np.stack([each.standard_normal((patches, patches)) for each in streams.each()])
        return vd.Parameters(weights=self.scale * torch.from_numpy(drawn).to(like))

    def outputs(self, parameters, batch, visible):
        return parameters.weights[:, None] @ (batch.contents() * visible[..., None])


MODELS = [ScaledValues(), Cold(temperature=0.5), DrawnMixture()]


def training(model, objective=None, **fields):
    return vd.Training(
        generator=GENERATOR,
        objective=objective or vd.MaskedReconstruction(),
        model=model,
        **{"steps": 6, "seeds": 2, "batch_size": 8, "schedule": vd.Schedule(frames=3), **fields},
    )


def test_a_class_offers_what_it_defines():
    """Attention of its own loses a parent's maps, and nothing inherits the closed forms."""

    class Maps(vd.OneLayer):
        def attention_maps(self, parameters, batch, visible):
            return super().attention_maps(parameters, batch, visible)

    every = vd.OneLayer.offers
    assert every == {"area attention", "attention maps", "correlations", "streams", "closed forms"}
    assert Maps.offers == every - {"closed forms"}
    assert ScaledValues.offers == every - {"closed forms", "streams"}
    assert Cold.offers == {"area attention", "correlations", "streams"}
    assert DrawnMixture.offers == frozenset()
    assert vd.Transformer.offers == {"area attention", "attention maps", "streams"}
    assert Maps.area_attention is vd.Model.area_attention
    assert (ScaledValues.name, vd.OneLayer.name) == ("scaled-values", "one-layer")
    assert ScaledValues(pace=0.5).describe() == "scaled-values, pace=0.5"


@pytest.mark.parametrize("objective", [vd.MaskedReconstruction(), vd.Contrastive()], ids=["mae", "cl"])
@pytest.mark.parametrize("model", [ScaledValues(pace=0.0), Cold()], ids=lambda model: model.name)
def test_where_it_is_the_layer_it_has_the_layers_trajectory(model, objective):
    """To round-off in float64: the layer's by its kernels and closed forms, the other's by autograd of its outputs."""
    own, layers = (
        vd.simulate(training(each, objective, precision="float64")) for each in (model, vd.OneLayer())
    )
    shared = [name for name in layers.dataset.data_vars if name in own.dataset.data_vars]
    lacks = {"top_key_concentration"} if isinstance(model, Cold) else set()
    assert set(layers.dataset.data_vars) - set(shared) == lacks
    for name in set(shared) - {"excess_loss"}:
        found, truth = own[name].to_numpy(), layers[name].to_numpy()
        np.testing.assert_allclose(found, truth, rtol=1e-11, atol=1e-12)
    assert own["excess_loss"].isnull().all()


def test_its_values_are_trained_and_kept():
    gains = vd.simulate(training(ScaledValues()))["final_gains"]
    assert gains.shape == (2, GENERATOR.feature_count) and (gains > 0).all()


def test_what_the_record_has_of_it():
    recorded = {model.name: {each.name for each in training(model).recorded} for model in MODELS}
    layers = {each.name for each in training(vd.OneLayer()).recorded}
    assert recorded["scaled-values"] == layers
    assert recorded["cold"] == layers - {"top_key_concentration"}
    assert recorded["drawn-mixture"] == {"loss", "excess_loss", "reconstruction_error"}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_start_is_where_it_begins(model):
    """A start takes the place of the initial parameters, drawn ones too, and is not added to them."""
    first = vd.simulate(training(model))
    blocks = {
        name.removeprefix("final_"): torch.from_numpy(first[name].to_numpy())
        for name in first.dataset.data_vars
        if name.startswith("final_")
    }
    again = vd.simulate(training(model, steps=0), start=vd.Parameters(**blocks))
    for name in blocks:
        assert again[f"final_{name}"].equals(first[f"final_{name}"])
    one = vd.Parameters(**{name: block[:1] for name, block in blocks.items()})
    both = vd.simulate(training(model, steps=0), start=one)
    for name in blocks:
        np.testing.assert_array_equal(both[f"final_{name}"][1], first[f"final_{name}"][0])


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_seed_does_not_depend_on_its_neighbours_nor_a_cell_on_its_grid(model):
    spec = training(model)
    alone = vd.simulate(replace(spec, seeds=(1,)))
    together, other = vd.simulate_grid([spec, replace(spec, objective=vd.Contrastive())])
    assert together.dataset.drop_attrs().equals(vd.simulate(spec).dataset.drop_attrs())
    assert not other["loss"].equals(together["loss"])
    for name in together.dataset.data_vars:
        np.testing.assert_allclose(together[name].sel(seed=[1]), alone[name], rtol=2e-4, atol=2e-6)


@pytest.fixture
def known(registering):
    for model in MODELS:
        vd.register(type(model))


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_a_store_finds_it_again_and_json_rebuilds_it(model, tmp_path):
    experiment = vd.Experiment(name="mine", training=training(model))
    again = vd.Experiment.from_json(experiment.to_json())
    assert again == experiment and type(again.training.model) is type(model)
    assert experiment.unnamed is None
    first = vd.ResultStore(tmp_path)(experiment)
    kept = vd.ResultStore(tmp_path, redraw=True)(again)
    assert kept.dataset.equals(first.dataset) and kept.dataset.attrs == first.dataset.attrs
    other = reseeded(experiment, 3)
    assert other.training.seed_numbers == (3000, 3001) and other.key != experiment.key
    assert not vd.run(other)["loss"].equals(first["loss"])


def test_a_key_stands_for_the_code_of_the_class_and_its_fields():
    def model(power, **fields):
        class Powered(ScaledValues):
            def outputs(self, parameters, batch, visible):
                return super().outputs(parameters, batch, visible) ** power

        return Powered(**fields)

    made = [model(1), model(2), model(1, pace=0.2), model(1), ScaledValues(), vd.OneLayer()]
    keys = [vd.Experiment(name="mine", training=training(each)).key for each in made]
    assert keys[0] == keys[3] and len(set(keys)) == 5


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_it_goes_on_from_a_checkpoint_to_the_same_bits(model, tmp_path, monkeypatch):
    spec, path, steps = training(model, optimizer=vd.Adam(learning_rate=0.1)), tmp_path / "run.pt", []
    whole = vd.simulate(spec)

    def stop(*given, own=loss_gradient, **options):
        steps.append(1)
        if len(steps) == 6:  # the first asks whether it can be trained
            raise KeyboardInterrupt
        return own(*given, **options)

    with monkeypatch.context() as patched:
        patched.setattr("vitdyn.dynamics.steppers.loss_gradient", stop)
        patched.setattr("vitdyn.dynamics.initial.loss_gradient", stop)
        with pytest.raises(KeyboardInterrupt):
            vd.simulate(spec, checkpoint=path, runtime=vd.Runtime(checkpoint_seconds=0))
    assert path.is_file()
    resumed = vd.simulate(spec, checkpoint=path)
    assert resumed.dataset.drop_attrs().equals(whole.dataset.drop_attrs()) and not path.exists()


def test_observables_and_figures_read_what_it_has(complaint):
    """What needs Φ says so of a model without it; the layer with more beside it has all figures."""
    names = ("attention_entropy", "head_own_attention", "gradient_norm")
    run = vd.simulate(training(ScaledValues(), observables=(*vd.RECORD, *names), evaluation_samples=8))
    assert all(run[name].notnull().any() for name in names)
    column = vd.plot.Column(title="scaled", trajectory=run)
    assert {row[0] for row in vd.plot.draw_dynamics([column]).rows} == {"a", "b", "c"}
    assert len(vd.learned_regime(run)) == 2
    bare = vd.simulate(training(DrawnMixture()))
    with complaint("variable", "this trajectory has"):
        vd.plot.draw_dynamics([vd.plot.Column(title="bare", trajectory=bare)])
    with complaint("variable", "this trajectory has"):
        vd.learned_regime(bare)
    with complaint("observables", "needs attention maps, which drawn-mixture lacks"):
        training(DrawnMixture(), observables=("attention_entropy",))
    with complaint("observables", "needs closed forms, which scaled-values lacks"):
        training(ScaledValues(), observables=("own_area_curvature",))


def test_a_bad_start_is_refused(complaint):
    zeros = vd.Correlations.zeros(GENERATOR.layout, 2, dtype=torch.float32)
    with complaint("start", "must have the blocks feature_position, position_position, gains"):
        vd.simulate(training(ScaledValues()), start=zeros)
    with complaint("start.weights", "must have the shape (2, 16, 16)"):
        vd.simulate(training(DrawnMixture()), start=vd.Parameters(weights=torch.zeros(2, 4, 4)))
