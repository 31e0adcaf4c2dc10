"""Training on data beyond the theory's: what the layer's kernels do exactly, and what its plain twin is given."""

import numpy as np
import pytest
import torch

import vitdyn as vd
from vitdyn.data import PatchGenerator, PatchLayout, shared_features
from vitdyn.dynamics import Training, simulate, simulate_grid
from vitdyn.dynamics.device_batches import DeviceBatches
from vitdyn.dynamics.gradient import forward_pass
from vitdyn.dynamics.grid import batch_key, batches_of_cells, is_capturable
from vitdyn.models import Correlations, OneLayer, Transformer, area_attention
from vitdyn.objectives import OBJECTIVES, Contrastive, MaskedReconstruction, Mixture
from vitdyn.objectives.contract import lower_bound_of
from vitdyn.reduced.exact_reduction import sampled_gradient
from vitdyn.reduced.symmetry import Symmetry

LAYOUT = PatchLayout.from_sizes([[5, 2, 2], [3, 4, 2]], grid=(3, 3))
KNOWN = {"cluster_probabilities": (0.7, 0.3), "latent_correlation": 0.4, "negative": 0.3}
BEYOND = {
    "noise": 0.2,
    "coherence": 0.1,
    "variants": 2,
    "feature_table": shared_features(LAYOUT, [0]),
    "largest_shift": 1,
}
SHORT = {"steps": 12, "seeds": 2, "precision": "float64", "batch_size": 6}


def run(fields, objective, **others):
    training = Training(
        generator=PatchGenerator(layout=LAYOUT, **fields), objective=objective, **SHORT | others
    )
    return simulate(training)


class TestTheLayer:
    @pytest.mark.parametrize("objective", [MaskedReconstruction(), Mixture()])
    def test_is_exact_where_it_says_so(self, objective):
        """With signs, correlated latents and unequal clusters its kernels give what plain torch and autograd give."""
        rate = vd.GradientDescent(learning_rate=30.0)
        fast, plain = (
            run(KNOWN, objective, model=model, optimizer=rate) for model in (OneLayer(), Transformer())
        )
        for name in ("area_attention", "own_area_attention", "reconstruction_error", "loss"):
            np.testing.assert_allclose(fast[name], plain[name], rtol=0, atol=1e-11)
        phi = fast["final_feature_position"].to_numpy()
        assert abs(phi).max() > 0.1
        np.testing.assert_allclose(
            phi.ravel(), plain["final_feature_position"].to_numpy().ravel(), rtol=0, atol=1e-10
        )

    @pytest.mark.parametrize("name", BEYOND)
    def test_refuses_a_batch_that_it_cannot_do(self, complaint, name):
        batch = PatchGenerator(layout=LAYOUT, **{name: BEYOND[name]}).sample(2, [0])
        visible = torch.ones(1, 2, 9, dtype=torch.bool)
        zeros = Correlations.zeros(LAYOUT, 1)
        with complaint("batch", "take its plain twin"):
            area_attention(zeros, batch, visible)
        with complaint("batch", "take its plain twin"):
            forward_pass(zeros, batch, (visible,), {})

    def test_of_several_cells_in_one_batch_has_the_bits_of_each(self):
        fields = ({}, {"latent_correlation": 0.4}, {"cluster_probabilities": (0.7, 0.3), "negative": 0.3})
        cells = [
            Training(
                generator=PatchGenerator(layout=LAYOUT, **own), objective=MaskedReconstruction(), **SHORT
            )
            for own in fields
        ]
        assert len(batches_of_cells(cells, torch.device("cpu"))) == 1
        for cell, together in zip(cells, simulate_grid(cells), strict=True):
            np.testing.assert_array_equal(together["area_attention"], simulate(cell)["area_attention"])

    def test_draws_nothing_on_a_device_but_the_theorys_data(self, complaint):
        generator = PatchGenerator(layout=LAYOUT, negative=0.3)
        with complaint("generator.negative", "drawn on the host"):
            DeviceBatches(generator, MaskedReconstruction(), (0,), 2, torch.float32, torch.device("cpu"))

    def test_shares_no_batch_of_a_gpu_where_data_are_not_the_theorys(self):
        cuda = torch.device("cuda")
        plain, other = (
            Training(generator=PatchGenerator(layout=LAYOUT, **fields), objective=MaskedReconstruction())
            for fields in ({}, {"latent_correlation": 0.5})
        )
        assert is_capturable(plain)
        assert not is_capturable(other)
        assert batch_key(other, cuda) is None
        assert batch_key(other, torch.device("cpu")) == batch_key(plain, torch.device("cpu"))


class TestTheTwin:
    @pytest.mark.parametrize("name", BEYOND)
    def test_trains_in_place_of_the_layer_and_says_so(self, name):
        fields, short = {name: BEYOND[name]}, {"steps": 2, "precision": "float32"}
        with pytest.warns(RuntimeWarning, match=rf"generator\.{name}; transformer trains it, slower"):
            found = run(fields, MaskedReconstruction(), **short)
        twin = run(fields, MaskedReconstruction(), **short, model=Transformer())
        np.testing.assert_array_equal(found["loss"], twin["loss"])
        assert np.isnan(found["excess_loss"]).all()
        assert "feature_position" not in found.dataset

    def test_is_named_with_the_field_that_brought_it_where_it_lacks_something(self, complaint):
        pull = vd.Observable(name="pull", compute=lambda state: state.loss, needs="correlations")
        with complaint("observables", "trains in place of one-layer for generator.noise"):
            run({"noise": 0.2}, MaskedReconstruction(), observables=(pull,))

    def test_stands_for_no_subclass_of_the_layer(self, complaint):
        """Its outputs may be others: kernels refuse the data before work starts."""

        class Halved(OneLayer):
            offers = frozenset()

            def outputs(self, parameters, batch, visible):
                return super().outputs(parameters, batch, visible) / 2

        with complaint("batch", "take its plain twin"):
            run({"noise": 0.1}, MaskedReconstruction(), model=Halved())

    @pytest.mark.parametrize("content_queries", [False, True])
    @pytest.mark.filterwarnings("ignore:the kernels:RuntimeWarning")
    def test_on_data_next_to_the_theorys_follows_the_layer(self, content_queries):
        given = {"objective": Contrastive(), "content_queries": content_queries}
        plain, near = run({}, **given), run({"noise": 1e-13}, **given)
        np.testing.assert_allclose(near["area_attention"], plain["area_attention"], rtol=0, atol=1e-10)

    @pytest.mark.filterwarnings("ignore:the kernels:RuntimeWarning")
    def test_of_one_variant_shared_by_nobody_is_the_layer(self):
        """A table that names (k, j) takes the general path of contents through every objective's step."""
        table = tuple(map(tuple, np.arange(6).reshape(2, 3).tolist()))
        for name in ("beit", "simmim", "cl"):
            plain, same = (run(fields, OBJECTIVES[name]()) for fields in ({}, {"feature_table": table}))
            np.testing.assert_allclose(same["loss"], plain["loss"], rtol=0, atol=1e-10)

    @pytest.mark.filterwarnings("ignore:the kernels:RuntimeWarning")
    def test_every_objective_trains_on_all_of_it(self):
        generator = PatchGenerator(layout=LAYOUT, **BEYOND)
        for kind in OBJECTIVES.values():
            found = simulate(Training(generator=generator, objective=kind(), steps=1, seeds=1, batch_size=8))
            assert np.isfinite(found["loss"]).all(), kind

    @pytest.mark.filterwarnings("ignore:the kernels:RuntimeWarning")
    def test_is_recorded_by_the_area_that_a_query_has_in_each_sample(self):
        """The record of moving areas against a plain loop over samples and patches."""

        def looped(state):
            found = torch.zeros(len(state.batch.seeds), 3, dtype=torch.float64)
            for seed, area in np.ndindex(*found.shape):
                by_place = {}
                for sample, patch in np.ndindex(*state.batch.area.shape[1:]):
                    own = state.batch.area[seed, sample] == area
                    shown = state.views[0][seed, sample]
                    if own[patch] and not shown[patch] and (own & shown).any():
                        place = int(state.batch.layout_position[seed, sample, patch])
                        by_place.setdefault(place, []).append(state.attention[0][seed, sample, area, patch])
                found[seed, area] = torch.stack(
                    [torch.stack(each).mean() for each in by_place.values()]
                ).mean()
            return found

        own = vd.Observable(name="looped", compute=looped, axes=("seed", "area"))
        layout = PatchLayout.from_sizes([4, 3, 2], grid=(3, 3))
        training = Training(
            generator=PatchGenerator(layout=layout, largest_shift=2),
            objective=MaskedReconstruction(),
            observables=(*vd.RECORD, own),
            evaluation_samples=40,
            **SHORT,
        )
        found = simulate(training)
        recorded = found["own_area_attention"].sel(statistic="mean").isel(cluster=0)
        np.testing.assert_allclose(recorded, found["looped"], rtol=0, atol=1e-12)


class TestTheReduction:
    @pytest.mark.parametrize("name", KNOWN | BEYOND)
    def test_refuses_data_that_are_not_the_theorys(self, complaint, name):
        symmetry = Symmetry.of(LAYOUT)
        generator = PatchGenerator(layout=LAYOUT, **{name: (KNOWN | BEYOND)[name]})
        with complaint(f"generator.{name}", "simulate any other"):
            sampled_gradient(symmetry, symmetry.zeros(1), generator, MaskedReconstruction(), 4, [0])


class TestLowerBounds:
    def test_hold_of_signed_latents_or_are_none(self):
        """One that asks for latents of one sign is no number for others; the rest are positive and below the loss."""
        generator = PatchGenerator(layout=LAYOUT, negative=0.5)
        batch = generator.sample(8, [0, 1])
        views = tuple(torch.from_numpy(np.random.default_rng(0).random((2, 8, 9)) < 0.5) for _ in range(2))
        zeros = Correlations.zeros(LAYOUT, 2)
        for objective in (
            MaskedReconstruction(),
            OBJECTIVES["simmim"](),
            Contrastive(),
            OBJECTIVES["beit"](),
        ):
            forward = forward_pass(zeros, batch, views[: objective.view_count], {})
            bound = lower_bound_of(objective, forward)
            assert bound.isnan().all() == (objective.name in ("cl", "beit"))
            assert not (objective.loss(forward) < bound).any()
            assert bound.isnan().all() or (bound > 0).all()


def test_a_verdict_says_what_was_added_to_the_data():
    generator = PatchGenerator(layout=LAYOUT, noise=0.1, variants=2)
    training = Training(generator=generator, objective=MaskedReconstruction(), steps=1)
    case = vd.Case(name="noisy", runs=(vd.Experiment(name="noisy", training=training),))
    assert case.basis == "full simulation, data with noise, variants"
