"""Data beyond the theory's: contents against a plain loop (exact), off as before (exact), moments (statistical)."""

import itertools

import numpy as np
import pytest
import torch

from vitdyn._specs import to_text
from vitdyn.data import PatchGenerator, PatchLayout, orthonormal_basis
from vitdyn.dynamics import Training, simulate
from vitdyn.experiments import Experiment
from vitdyn.models import Correlations, OneLayer, Transformer, area_attention
from vitdyn.objectives import Contrastive, MaskedReconstruction

UNEQUAL = PatchLayout.from_sizes([[3, 2, 1], [2, 4], [1, 1, 1, 3]], grid=(2, 3), seed=1)
EQUAL = PatchLayout.from_sizes([5, 2, 2], clusters=2, grid=(3, 3))
ROUND_OFF = {"rtol": 0, "atol": 1e-12}


def random_gram(rng, count):
    rows = rng.standard_normal((count, count + 2))
    return rows @ rows.T / count


def looped_contents(batch, vectors):
    """X_p = z_j v_f + noise, one number after the other."""
    found = np.zeros((len(batch.seeds), batch.count, batch.layout.patches, len(vectors)))
    for seed, sample, patch, coordinate in itertools.product(*map(range, found.shape)):
        cluster = int(batch.cluster[seed, sample])
        area = batch.layout.partition[cluster][patch]
        latent = float(batch.latents[seed, sample, area])
        value = latent * vectors[cluster * batch.layout.areas + area][coordinate]
        if batch.noise is not None:
            value += float(batch.noise[seed, sample, patch, coordinate])
        found[seed, sample, patch, coordinate] = value
    return torch.from_numpy(found)


class TestContents:
    @pytest.mark.parametrize("layout", [UNEQUAL, EQUAL])
    @pytest.mark.parametrize("case", ["off", "noise", "number", "matrix"])
    def test_are_those_of_a_loop(self, layout, case, rng):
        count = layout.clusters * layout.areas
        gram = {"number": 0.3 + 0.7 * np.eye(count), "matrix": random_gram(rng, count)}.get(case)
        fields = {
            "off": {},
            "noise": {"noise": 0.4},
            "number": {"coherence": 0.3},
            "matrix": {"coherence": gram, "noise": 0.2},
        }[case]
        generator = PatchGenerator(layout=layout, **fields)
        batch = generator.sample(5, [2, 7], step=3)
        vectors = np.eye(count) if gram is None else generator.features.vectors
        if gram is not None:
            np.testing.assert_allclose(vectors @ vectors.T, gram, rtol=0, atol=1e-12)
            np.testing.assert_allclose(vectors, vectors.T, rtol=0, atol=1e-12)
        torch.testing.assert_close(batch.contents(), looped_contents(batch, vectors), **ROUND_OFF)
        assert batch.contents_shape == tuple(batch.contents().shape)
        assert batch.contents_shape[3] == generator.feature_count == count

    def test_off_they_are_the_patches_in_the_basis_of_features(self):
        batch, basis = PatchGenerator(layout=EQUAL).sample(4, [1]), orthonormal_basis(EQUAL, seed=3)
        there = batch.patches(basis) @ basis.features.flatten(0, 1).T
        torch.testing.assert_close(there, batch.contents(), **ROUND_OFF)

    def test_images_hold_the_contents(self):
        """Inner products of rendered patches are those of the contents, whatever these are made of."""
        batch = PatchGenerator(layout=UNEQUAL, noise=0.3, coherence=0.2).sample(2, [4])
        images = batch.images(patch_size=4, channels=1, seed=2)
        blocks = images.unflatten(-1, (3, 4)).unflatten(-3, (2, 4)).permute(0, 1, 2, 3, 5, 4, 6).flatten(2, 4)
        pixels, contents = blocks.flatten(3), batch.contents()
        torch.testing.assert_close(pixels @ pixels.mT, contents @ contents.mT, **ROUND_OFF)

    def test_patches_in_a_basis_are_refused(self, complaint):
        batch = PatchGenerator(layout=EQUAL, noise=0.1).sample(2, [0])
        with complaint("batch", "take the coordinates contents()"):
            batch.patches(orthonormal_basis(EQUAL))


class TestDraws:
    @pytest.mark.parametrize("fields", [{"noise": 0.4}, {"coherence": 0.3}])
    def test_what_is_added_leaves_the_other_draws_alone(self, fields):
        asked = {"count": 6, "seeds": [3, 8], "step": 2, "purpose": "evaluation ", "by_cluster": True}
        plain = PatchGenerator(layout=UNEQUAL).sample(**asked)
        more = PatchGenerator(layout=UNEQUAL, **fields).sample(**asked)
        assert torch.equal(plain.cluster, more.cluster)
        assert torch.equal(plain.latents, more.latents)

    def test_a_seed_does_not_depend_on_its_neighbours_nor_a_step_on_others(self):
        generator = PatchGenerator(layout=EQUAL, noise=1.0)
        together, alone = (generator.sample(3, seeds, step=4) for seeds in ([5, 7], [7]))
        assert torch.equal(together.noise[1], alone.noise[0])
        others = [
            generator.sample(3, [7], **other).noise for other in ({}, {"purpose": "evaluation ", "step": 4})
        ]
        assert not any(torch.equal(alone.noise, other) for other in others)

    def test_a_batch_is_mapped_whole(self):
        batch = PatchGenerator(layout=EQUAL, noise=1.0, coherence=0.2).sample(6, [5, 7])
        torch.testing.assert_close(
            batch.part(slice(2, 4)).contents(), batch.contents()[:, 2:4], rtol=0, atol=0
        )

    def test_noise_has_its_moments_in_every_coordinate(self, statistics, test_seed):
        noise = PatchGenerator(layout=EQUAL, noise=0.5).sample(4000, [test_seed]).noise[0].flatten(1).numpy()
        statistics.assert_mean(noise, 0.0)
        statistics.assert_mean(noise**2, 0.25)
        statistics.assert_mean((noise**4).ravel(), 3 * 0.25**2)
        statistics.assert_mean(noise[:, 1:] * noise[:, :-1], 0.0)
        statistics.assert_mean(noise[1:] * noise[:-1], 0.0)


class TestSpecification:
    def test_what_is_off_is_left_out_of_json(self):
        assert to_text(PatchGenerator(layout=EQUAL)) == to_text(
            PatchGenerator(layout=EQUAL, noise=0.0, coherence=0)
        )
        assert "noise" not in to_text(PatchGenerator(layout=EQUAL))

    def test_they_come_back_from_json(self):
        gram = ((1.0, 0.2, 0.0), (0.2, 1.0, 0.1), (0.0, 0.1, 2.0))
        layout = PatchLayout.from_sizes([2, 1, 1])
        generator = PatchGenerator(layout=layout, noise=0.1, coherence=np.array(gram))
        training = Training(generator=generator, objective=MaskedReconstruction(), steps=1)
        experiment = Experiment(name="noisy", training=training)
        assert Experiment.from_json(experiment.to_json()) == experiment
        assert generator.coherence == gram

    def test_departures_are_named_in_order(self):
        assert PatchGenerator(layout=EQUAL).departures == ()
        generator = PatchGenerator(layout=EQUAL, coherence=0.1, noise=1.0)
        assert generator.departures == ("noise", "coherence")
        assert generator.beyond_layer == "noise"

    @pytest.mark.parametrize(
        ("fields", "field", "remedy"),
        [
            ({"noise": -0.1}, "noise", "must be a number in [0, 1e+06]"),
            ({"coherence": 1.0}, "coherence", "must be a number in (-0.2, 1)"),
            ({"coherence": -0.2}, "coherence", "must be a number in (-0.2, 1)"),
            ({"coherence": [[1.0, 0.0], [0.0, 1.0]]}, "coherence", "of shape (6, 6)"),
            ({"coherence": np.ones((6, 6))}, "coherence", "must be positive definite"),
            ({"coherence": np.triu(np.ones((6, 6)))}, "coherence", "symmetric"),
            ({"coherence": "much"}, "coherence", "must be a number"),
        ],
    )
    def test_bad_fields_are_named(self, complaint, fields, field, remedy):
        with complaint(field, remedy):
            PatchGenerator(layout=EQUAL, **fields)


class TestTraining:
    def test_the_layer_refuses_a_batch_that_it_cannot_do(self, complaint):
        batch = PatchGenerator(layout=EQUAL, coherence=0.1).sample(2, [0])
        visible = torch.ones(1, 2, 9, dtype=torch.bool)
        with complaint("batch", "take its plain twin"):
            area_attention(Correlations.zeros(EQUAL, 1), batch, visible)

    def test_a_layer_on_such_data_is_trained_by_its_twin_and_says_so(self):
        generator = PatchGenerator(layout=EQUAL, noise=0.2)
        given = {"generator": generator, "objective": MaskedReconstruction(), "steps": 3, "seeds": 2}
        training = Training(**given)
        with pytest.warns(RuntimeWarning, match=r"generator\.noise; transformer trains it, slower"):
            found = simulate(training)
        twin = simulate(Training(**given, model=Transformer()))
        assert isinstance(training.model, OneLayer)
        np.testing.assert_array_equal(found["loss"], twin["loss"])
        assert np.isnan(found["excess_loss"]).all()
        assert "feature_position" not in found.dataset

    @pytest.mark.parametrize("content_queries", [False, True])
    def test_noise_of_no_size_is_the_layer(self, content_queries):
        """The twin on data next to the theory's follows the layer: no path in between has other data."""
        given = {"objective": Contrastive(), "steps": 20, "seeds": 2, "precision": "float64"}
        given |= {"content_queries": content_queries}
        plain = simulate(Training(generator=PatchGenerator(layout=EQUAL), **given))
        with pytest.warns(RuntimeWarning):
            near = simulate(Training(generator=PatchGenerator(layout=EQUAL, noise=1e-13), **given))
        np.testing.assert_allclose(near["area_attention"], plain["area_attention"], rtol=0, atol=1e-10)
