"""Data beyond the theory's: contents against a plain loop (exact), off as before (exact), moments (statistical)."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitdyn._specs import to_text
from vitdyn.data import (
    Beta,
    Custom,
    PatchGenerator,
    PatchLayout,
    TwoPoint,
    orthonormal_basis,
    shared_features,
)
from vitdyn.data.draws import draw_positions
from vitdyn.dynamics import Training
from vitdyn.experiments import Experiment
from vitdyn.objectives import MaskedReconstruction
from vitdyn.seeds import Streams

UNEQUAL = PatchLayout.from_sizes([[3, 2, 1], [2, 4], [1, 1, 1, 3]], grid=(2, 3), seed=1)
EQUAL = PatchLayout.from_sizes([5, 2, 2], clusters=2, grid=(3, 3))
ROUND_OFF = {"rtol": 0, "atol": 1e-12}
ALL = {
    "cluster_probabilities": (0.7, 0.3),
    "latent_correlation": 0.4,
    "negative": 0.3,
    "noise": 0.2,
    "coherence": 0.1,
    "variants": 2,
    "feature_table": shared_features(EQUAL, [0]),
    "largest_shift": 1,
}


def random_gram(rng, count):
    rows = rng.standard_normal((count, count + 2))
    return rows @ rows.T / count


def looped(batch, generator):
    """Return X_p = z_j v_f + noise, and the area of each patch, one number after the other."""
    layout, vectors = batch.layout, generator.features.vectors
    contents = np.zeros((len(batch.seeds), batch.count, layout.patches, len(vectors)))
    areas = np.zeros(contents.shape[:3], int)
    for seed, sample, patch in itertools.product(*map(range, areas.shape)):
        cluster, position = int(batch.cluster[seed, sample]), patch
        if batch.layout_position is not None:
            position = int(batch.layout_position[seed, sample, patch])
        area = areas[seed, sample, patch] = layout.partition[cluster][position]
        feature = cluster * layout.areas + area
        if batch.area_feature is not None:
            feature = int(batch.area_feature[seed, sample, area])
        for coordinate in range(len(vectors)):
            value = float(batch.latents[seed, sample, area]) * vectors[feature][coordinate]
            if batch.noise is not None:
                value += float(batch.noise[seed, sample, patch, coordinate])
            contents[seed, sample, patch, coordinate] = value
    return torch.from_numpy(contents), torch.from_numpy(areas)


class TestContents:
    @pytest.mark.parametrize("layout", [UNEQUAL, EQUAL])
    @pytest.mark.parametrize(
        "name", ["off", "noise", "coherence", "matrix", "variants", "shared", "shift", "all"]
    )
    def test_are_those_of_a_loop(self, layout, name, rng):
        count = layout.clusters * layout.areas
        gram, table = random_gram(rng, count), shared_features(layout, [0, 1])
        every = ALL | {"cluster_probabilities": None, "feature_table": table}
        cases = {
            "noise": {"noise": 0.4},
            "coherence": {"coherence": 0.3},
            "matrix": {"coherence": gram, "noise": 0.2},
        }
        cases |= {
            "variants": {"variants": 3},
            "shared": {"feature_table": table},
            "shift": {"largest_shift": 2},
        }
        cases |= {"off": {}, "all": every}
        generator = PatchGenerator(layout=layout, **cases[name])
        batch = generator.sample(5, [2, 7], step=3)
        contents, areas = looped(batch, generator)
        torch.testing.assert_close(batch.contents(), contents, **ROUND_OFF)
        assert torch.equal(batch.area, areas)
        assert batch.contents_shape == tuple(contents.shape)
        assert batch.contents_shape[3] == generator.feature_count

    def test_vectors_have_their_gram_matrix(self, rng):
        gram = random_gram(rng, 6)
        for coherence, wanted in ((gram, gram), (-0.1, 1.1 * np.eye(6) - 0.1), (0.6, 0.4 * np.eye(6) + 0.6)):
            vectors = PatchGenerator(layout=EQUAL, coherence=coherence).features.vectors
            np.testing.assert_allclose(vectors @ vectors.T, wanted, rtol=0, atol=1e-12)
            np.testing.assert_allclose(vectors, vectors.T, rtol=0, atol=1e-12)

    def test_along_features_are_inner_products(self, rng):
        generator = PatchGenerator(layout=EQUAL, coherence=random_gram(rng, 6))
        batch = generator.sample(3, [1])
        along = batch.along_features(batch.contents())
        wanted = (
            batch.patch_latent[..., None] * torch.from_numpy(generator.features.gram)[batch.patch_feature]
        )
        torch.testing.assert_close(along, wanted, **ROUND_OFF)

    def test_off_they_are_the_patches_in_the_basis_of_features(self):
        batch, basis = PatchGenerator(layout=EQUAL).sample(4, [1]), orthonormal_basis(EQUAL, seed=3)
        there = batch.patches(basis) @ basis.features.flatten(0, 1).T
        torch.testing.assert_close(there, batch.contents(), **ROUND_OFF)

    @pytest.mark.parametrize("fields", [ALL | {"noise": 0.0}, ALL, {"largest_shift": 2}])
    def test_images_hold_the_contents(self, fields):
        """Inner products of rendered patches are those of the contents, whatever these are made of."""
        batch = PatchGenerator(layout=EQUAL, **fields).sample(2, [4])
        images = batch.images(patch_size=4, channels=1, seed=2)
        blocks = images.unflatten(-1, (3, 4)).unflatten(-3, (3, 4)).permute(0, 1, 3, 5, 4, 6, 2)
        pixels, contents = blocks.flatten(2, 3).flatten(3), batch.contents()
        torch.testing.assert_close(pixels @ pixels.mT, contents @ contents.mT, **ROUND_OFF)

    def test_patches_in_a_basis_are_refused(self, complaint):
        for fields in ({"noise": 0.1}, {"variants": 2}, {"coherence": 0.1}):
            with complaint("batch", "take the coordinates contents()"):
                PatchGenerator(layout=EQUAL, **fields).sample(2, [0]).patches(orthonormal_basis(EQUAL))


class TestMovingAreas:
    batch = PatchGenerator(layout=UNEQUAL, largest_shift=2).sample(7, [2, 5])

    def test_what_is_asked_of_areas_follows_them(self, rng):
        batch, visible = self.batch, torch.from_numpy(rng.random((2, 7, 6)) < 0.5)
        member = torch.nn.functional.one_hot(batch.area, 4).mT
        assert torch.equal(batch.membership, member.to(batch.latents))
        assert torch.equal(batch.area_sizes, member.sum(3))
        counts = (member * visible[:, :, None]).sum(3)
        assert torch.equal(batch.visible_count(visible), counts.to(batch.latents))
        assert torch.equal(batch.own_area_visible(visible), counts.gather(2, batch.area) > 0)

    def test_in_the_layouts_order_areas_lie_where_it_says(self):
        table = torch.tensor(UNEQUAL.area_of_patch)[self.batch.cluster]
        assert torch.equal(self.batch.in_layout_order(self.batch.area), table)
        assert (self.batch.area != table).any()

    @pytest.mark.parametrize("grid", [(2, 3), None])
    def test_shifts_are_those_of_the_torus_and_uniform(self, grid, test_seed, statistics):
        layout, largest = replace(UNEQUAL, grid=grid), 1
        places = draw_positions(layout, largest, Streams((test_seed,), "shifts"), 4000)[0]
        sides = grid or (6,)
        cells = np.arange(6).reshape(sides)
        moved = [
            np.roll(cells, shift, tuple(range(len(sides)))).ravel()
            for shift in itertools.product(range(largest + 1), repeat=len(sides))
        ]
        counts = [(places == wanted).all(1).sum() for wanted in moved]
        assert sum(counts) == 4000
        statistics.assert_uniform(counts)


class TestDraws:
    @pytest.mark.parametrize("name", sorted(ALL.keys() - {"cluster_probabilities"}))
    def test_what_is_added_leaves_the_other_draws_alone(self, name):
        asked = {"count": 6, "seeds": [3, 8], "step": 2, "purpose": "evaluation ", "by_cluster": True}
        plain = PatchGenerator(layout=EQUAL).sample(**asked)
        more = PatchGenerator(layout=EQUAL, **{name: ALL[name]}).sample(**asked)
        assert torch.equal(plain.cluster, more.cluster)
        changes = name in ("latent_correlation", "negative")
        assert torch.equal(plain.latents, more.latents) != changes

    def test_a_seed_does_not_depend_on_its_neighbours_nor_a_step_on_others(self):
        generator = PatchGenerator(layout=EQUAL, **ALL)
        together, alone = (generator.sample(5, seeds, step=4) for seeds in ([5, 7], [7]))
        assert torch.equal(together.contents()[1], alone.contents()[0])
        others = ({}, {"purpose": "evaluation ", "step": 4}, {"purpose": "data set ", "step": 4})
        assert not any(torch.equal(alone.noise, generator.sample(5, [7], **other).noise) for other in others)

    def test_a_batch_is_mapped_whole(self):
        batch = PatchGenerator(layout=EQUAL, **ALL).sample(6, [5, 7])
        assert torch.equal(batch.part(slice(2, 4)).contents(), batch.contents()[:, 2:4])

    def test_areas_that_a_cluster_lacks_have_latent_0(self):
        fields = {"latent_correlation": 0.9, "negative": 0.5}
        batch = PatchGenerator(layout=UNEQUAL, **fields).sample(20, [1])
        exists = torch.from_numpy(UNEQUAL.sizes > 0)[batch.cluster]
        assert torch.equal(batch.latents != 0, exists)


class TestFrequencies:
    def test_noise_has_its_moments_in_every_coordinate(self, statistics, test_seed):
        noise = PatchGenerator(layout=EQUAL, noise=0.5).sample(2000, [test_seed]).noise[0].flatten(1).numpy()
        for power, moment in ((1, 0), (2, 1), (4, 3)):
            statistics.assert_mean(noise**power, moment * 0.5**power)
        statistics.assert_mean(noise[:, 1:] * noise[:, :-1], 0.0)
        statistics.assert_mean(noise[1:] * noise[:-1], 0.0)

    def test_clusters_have_their_probabilities(self, statistics, test_seed):
        probabilities = (0.6, 0.3, 0.1)
        generator = PatchGenerator(layout=UNEQUAL, cluster_probabilities=probabilities)
        cluster = generator.sample(20_000, [test_seed]).cluster[0].numpy()
        for index, probability in enumerate(probabilities):
            statistics.assert_mean(1.0 * (cluster == index), probability)

    @pytest.mark.parametrize("distribution", [TwoPoint(probability_high=0.2), Beta(alpha=0.5)])
    def test_correlated_latents_keep_their_law_and_have_the_correlation(
        self, distribution, statistics, test_seed
    ):
        """E f(z_i) g(z_j) = (1 − ρ) E f E g + ρ E fg with f, g = z and z²; and a user's own law as well as ours."""
        own = Custom(draw=lambda generator, shape: distribution.sample(generator, shape), low=1.0, high=1.5)
        for latents in (distribution, own):
            generator = PatchGenerator(layout=EQUAL, latents=latents, latent_correlation=0.3)
            one, other = generator.sample(20_000, [test_seed]).latents[0, :, :2].T.numpy()
            mean, second = distribution.mean, distribution.second_moment
            third = (distribution.sample(np.random.default_rng(0), (10**6,)) ** 3).mean()
            for each in (one, other):
                statistics.assert_mean(each, mean)
                statistics.assert_mean(each**2, second)
            statistics.assert_mean(one * other, 0.7 * mean**2 + 0.3 * second)
            statistics.assert_mean(one**2 * other - 0.3 * (third - mean * second), mean * second)

    def test_all_areas_share_one_latent_at_correlation_1(self):
        latents = PatchGenerator(layout=EQUAL, latent_correlation=1.0).sample(5, [0]).latents
        assert torch.equal(latents, latents[..., :1].expand_as(latents))

    def test_signs_are_drawn_by_area(self, statistics, test_seed):
        plain = PatchGenerator(layout=EQUAL).sample(20_000, [test_seed]).latents
        signed = PatchGenerator(layout=EQUAL, negative=0.3).sample(20_000, [test_seed]).latents
        assert torch.equal(signed.abs(), plain)
        below = 1.0 * (signed[0] < 0).numpy()
        statistics.assert_mean(below, 0.3)
        statistics.assert_mean(below[:, 0] * below[:, 1], 0.09)

    def test_variants_are_uniform_and_independent_by_area(self, statistics, test_seed):
        batch = PatchGenerator(layout=EQUAL, variants=2).sample(20_000, [test_seed])
        first = (batch.cluster[..., None] * 3 + torch.arange(3)) * 2
        drawn = (batch.area_feature - first)[0].numpy()
        statistics.assert_uniform(np.bincount(drawn @ [1, 2, 4], minlength=8))


class TestSpecification:
    def test_what_is_off_is_left_out_of_json(self):
        off = {"noise": 0, "coherence": 0, "variants": 1, "largest_shift": 0, "feature_table": None}
        generator = PatchGenerator(layout=EQUAL, **off)
        assert to_text(generator) == to_text(PatchGenerator(layout=EQUAL))
        assert "noise" not in to_text(generator)
        assert generator.departures == ()
        assert generator.beyond_layer is None

    def test_they_come_back_from_json(self):
        gram = tuple(map(tuple, (np.eye(10) + 0.1).tolist()))
        given = {"coherence": np.array(gram), "feature_table": np.array(ALL["feature_table"])}
        generator = PatchGenerator(layout=EQUAL, **ALL | given)
        experiment = Experiment(
            name="other", training=Training(generator=generator, objective=MaskedReconstruction(), steps=1)
        )
        assert Experiment.from_json(experiment.to_json()) == experiment
        assert generator.coherence == gram

    def test_departures_are_named_in_order(self):
        assert PatchGenerator(layout=EQUAL, **ALL).departures == tuple(ALL)
        for name in ALL:
            generator = PatchGenerator(layout=EQUAL, **{name: ALL[name]})
            known = ("cluster_probabilities", "latent_correlation", "negative")
            assert generator.beyond_layer == (None if name in known else name)

    def test_shared_features_are_numbered_in_order(self):
        assert shared_features(EQUAL, [0]) == ((0, 1, 2), (0, 3, 4))
        assert shared_features(EQUAL, [2, 1]) == ((0, 1, 2), (3, 1, 2))
        assert PatchGenerator(layout=EQUAL, feature_table=shared_features(EQUAL, [0])).feature_count == 5

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
            ({"cluster_probabilities": (0.5, 0.4)}, "cluster_probabilities", "2 positive numbers"),
            ({"cluster_probabilities": (1.0, 0.0)}, "cluster_probabilities", "2 positive numbers"),
            ({"cluster_probabilities": (1.0,)}, "cluster_probabilities", "2 positive numbers"),
            ({"latent_correlation": 1.1}, "latent_correlation", "must be a number in [0, 1]"),
            ({"negative": -0.1}, "negative", "must be a number in [0, 1]"),
            ({"variants": 0}, "variants", "1 or more"),
            ({"feature_table": ((0, 1, 2),)}, "feature_table", "of shape (2, 3)"),
            ({"feature_table": ((0, 1, 2), (0, 3, 5))}, "feature_table", "none left out"),
            ({"feature_table": ((0, 1, 2), (0, -1, 3))}, "feature_table", "none left out"),
            ({"largest_shift": 3}, "largest_shift", "must be 2 or less"),
        ],
    )
    def test_bad_fields_are_named(self, complaint, fields, field, remedy):
        with complaint(field, remedy):
            PatchGenerator(layout=EQUAL, **fields)

    def test_a_bad_shared_area_is_named(self, complaint):
        with complaint("areas", "must be 2 or less"):
            shared_features(EQUAL, [3])
