"""The generator and its batches: streams (exact), frequencies (statistical), patches and images (exact)."""

from itertools import product

import numpy as np
import pytest
import torch

from vitdyn.data import (
    Constant,
    PatchBatch,
    PatchGenerator,
    PatchLayout,
    TwoPoint,
    Uniform,
    orthonormal_basis,
)

UNEQUAL = PatchLayout.from_sizes([[3, 2, 1], [2, 4], [1, 1, 1, 3]], grid=(2, 3), seed=1)
EQUAL = PatchLayout.from_sizes([5, 2, 2], clusters=2, grid=(3, 3))
ROUND_OFF = {"rtol": 0, "atol": 1e-12}


def same(first, second):
    return torch.equal(first.cluster, second.cluster) and torch.equal(first.latents, second.latents)


@pytest.fixture(scope="module")
def batch():
    return PatchGenerator(layout=UNEQUAL).sample(12, [3, 8])


class TestStreams:
    generator = PatchGenerator(layout=UNEQUAL)

    @pytest.mark.parametrize("seed", [0, 5, 7])
    def test_a_seed_does_not_depend_on_its_neighbours(self, seed):
        together = self.generator.sample(9, [5, 7, 0], step=4)
        alone = self.generator.sample(9, [seed], step=4)
        index = together.seeds.index(seed)
        assert torch.equal(together.cluster[index], alone.cluster[0])
        assert torch.equal(together.latents[index], alone.latents[0])

    def test_the_same_draw_twice(self):
        asked = {"count": 9, "seeds": [5, 7], "step": 2, "purpose": "evaluation "}
        assert same(self.generator.sample(**asked), self.generator.sample(**asked))

    def test_a_repeated_seed_repeats(self):
        batch = self.generator.sample(9, [5, 5])
        assert torch.equal(batch.latents[0], batch.latents[1])

    @pytest.mark.parametrize("other", [{"step": 1}, {"seeds": [6]}, {"purpose": "evaluation "}])
    def test_different_steps_seeds_and_purposes_draw_differently(self, other):
        asked = {"count": 40, "seeds": [5], "step": 0, "purpose": ""}
        one, two = self.generator.sample(**asked), self.generator.sample(**asked | other)
        assert not torch.equal(one.cluster, two.cluster)
        assert not (one.latents == two.latents)[one.latents > 0].any()

    def test_clusters_and_latents_come_from_streams_of_their_own(self):
        """The distribution does not change the clusters, nor the number of clusters the latents."""
        constant = PatchGenerator(layout=UNEQUAL, latents=Constant()).sample(9, [5])
        assert torch.equal(constant.cluster, self.generator.sample(9, [5]).cluster)
        one = PatchGenerator(layout=PatchLayout.from_sizes([5, 2, 2])).sample(9, [5])
        assert torch.equal(one.latents, PatchGenerator(layout=EQUAL).sample(9, [5]).latents)

    def test_global_random_state_is_neither_used_nor_changed(self):
        before = torch.get_rng_state()
        first = self.generator.sample(9, [5])
        torch.rand(3)
        torch.set_rng_state(before)
        assert same(first, self.generator.sample(9, [5]))
        assert torch.equal(before, torch.get_rng_state())


class TestDraws:
    def test_shapes_and_types(self, batch):
        assert (batch.seeds, batch.count) == ((3, 8), 12)
        assert batch.cluster.shape == (2, 12)
        assert batch.latents.shape == (2, 12, 4)
        assert batch.area.shape == batch.patch_latent.shape == (2, 12, 6)
        assert batch.latents.dtype == torch.float64
        assert PatchGenerator(layout=EQUAL).sample(2, [0], dtype=torch.float32).latents.dtype == torch.float32

    def test_a_single_cluster_is_cluster_0(self):
        batch = PatchGenerator(layout=PatchLayout.from_sizes([2, 2])).sample(5, [1])
        assert batch.cluster.tolist() == [[0] * 5]

    def test_clusters_are_uniform(self, statistics, test_seed):
        batch = PatchGenerator(layout=UNEQUAL).sample(30_000, [test_seed])
        statistics.assert_uniform(np.bincount(batch.cluster[0], minlength=3))

    def test_clusters_are_uniform_across_steps_and_seeds(self, statistics, test_seed):
        """First draws of neighbouring streams are as independent as draws of one stream."""
        generator, seeds = PatchGenerator(layout=UNEQUAL), range(10 * test_seed, 10 * test_seed + 10)
        drawn = [generator.sample(1, seeds, step=step).cluster[:, 0].numpy() for step in range(181)]
        clusters = np.stack(drawn)
        statistics.assert_uniform(np.bincount(clusters.ravel(), minlength=3))
        statistics.assert_uniform(np.bincount((3 * clusters[1:] + clusters[:-1]).ravel(), minlength=9))

    def test_by_cluster_the_clusters_are_sorted_and_nothing_else_changes(self):
        generator = PatchGenerator(layout=UNEQUAL)
        plain, sorted_ = (generator.sample(50, [3, 8], step=2, by_cluster=order) for order in (False, True))
        assert torch.equal(sorted_.cluster, plain.cluster.sort(dim=1).values)
        both = (plain.latents > 0) & (sorted_.latents > 0)
        assert torch.equal(plain.latents[both], sorted_.latents[both])
        exists = torch.from_numpy(UNEQUAL.sizes > 0)
        assert torch.equal(sorted_.latents > 0, exists[sorted_.cluster])

    def test_by_cluster_latents_and_clusters_stay_independent(self, statistics, test_seed):
        distribution = TwoPoint(low=0.5, high=2.0, probability_high=0.3)
        batch = PatchGenerator(layout=EQUAL, latents=distribution).sample(
            30_000, [test_seed], by_cluster=True
        )
        for cluster in range(EQUAL.clusters):
            statistics.assert_mean(batch.latents[batch.cluster == cluster][:, 0].numpy(), distribution.mean)

    def test_latents_follow_the_law_and_are_independent(self, statistics, test_seed):
        distribution = TwoPoint(low=0.5, high=2.0, probability_high=0.3)
        latents = (
            PatchGenerator(layout=EQUAL, latents=distribution).sample(20_000, [test_seed]).latents[0].numpy()
        )
        for area in range(3):
            statistics.assert_mean(latents[:, area], distribution.mean)
            statistics.assert_mean(latents[:, area] * latents[:, area - 1], distribution.mean**2)

    def test_areas_that_a_cluster_lacks_have_latent_0(self, batch):
        exists = torch.from_numpy(UNEQUAL.sizes > 0)[batch.cluster]
        assert (batch.latents[~exists] == 0).all()
        assert (batch.latents[exists] >= 1).all()
        assert (~exists).any()
        assert (batch.patch_latent > 0).all()

    @pytest.mark.parametrize(
        ("asked", "field", "remedy"),
        [
            ({"seeds": []}, "seeds", "must name at least one seed"),
            ({"seeds": [1, -1]}, "seeds", "must be a whole number, 0 or more"),
            ({"seeds": [1.5]}, "seeds", "must be a whole number, 0 or more"),
            ({"count": 0}, "count", "must be a whole number, 1 or more"),
            ({"step": -1}, "step", "must be a whole number, 0 or more"),
            ({"purpose": "other "}, "purpose", "must be one of"),
        ],
    )
    def test_bad_values_are_named(self, complaint, asked, field, remedy):
        with complaint(field, remedy):
            PatchGenerator(layout=EQUAL).sample(**{"count": 4, "seeds": [0]} | asked)

    @pytest.mark.parametrize("distribution", ["uniform", 1.0, None, Uniform])
    def test_what_is_no_law_is_named(self, complaint, distribution):
        with complaint("latents", "must be a distribution: one of uniform"):
            PatchGenerator(layout=EQUAL, latents=distribution)

    def test_what_is_no_layout_is_named(self, complaint):
        with complaint("layout", "must be a PatchLayout"):
            PatchGenerator(layout=EQUAL.partition)


class TestBasis:
    @pytest.mark.parametrize("layout", [UNEQUAL, EQUAL])
    @pytest.mark.parametrize("asked", [{}, {"seed": 3}, {"dimension": 23}, {"dimension": 23, "seed": 3}])
    def test_features_and_positions_are_orthonormal(self, layout, asked):
        basis = orthonormal_basis(layout, **asked)
        exists = torch.from_numpy(layout.sizes > 0)
        rows = torch.cat([basis.features[exists], basis.positions])
        assert basis.dimension == asked.get("dimension", len(rows))
        identity = torch.eye(len(rows), dtype=torch.float64)
        torch.testing.assert_close(rows @ rows.T, identity, **ROUND_OFF)
        assert (basis.features[~exists] == 0).all()
        assert basis.features.shape == (*layout.sizes.shape, basis.dimension)

    def test_without_a_seed_they_are_coordinates(self):
        basis = orthonormal_basis(EQUAL)
        rows = torch.cat([basis.features.flatten(0, 1), basis.positions])
        assert torch.equal(rows, torch.eye(15, dtype=torch.float64))

    def test_the_seed_decides(self):
        first, again, other = (orthonormal_basis(EQUAL, seed=seed).features for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_random_rows_point_in_no_preferred_direction(self, statistics, test_seed):
        """E of one coordinate is 0 and of its square 1/d."""
        layout = PatchLayout.from_sizes([1, 1])
        first = [orthonormal_basis(layout, seed=2000 * test_seed + i).features[0, 0, 0] for i in range(2000)]
        statistics.assert_mean(np.array(first), 0.0)
        statistics.assert_mean(np.array(first) ** 2, 1 / 4)

    def test_too_small_a_dimension_is_named(self, complaint):
        with complaint("dimension", "9 features and 6 positions need 15 or more"):
            orthonormal_basis(UNEQUAL, dimension=14)


@pytest.mark.parametrize("seed", [None, 4])
def test_dense_patches_are_the_formula_written_as_a_loop(batch, seed):
    basis = orthonormal_basis(UNEQUAL, seed=seed)
    patches = batch.patches(basis)
    assert patches.shape == (2, 12, 6, 15)
    for s, n, p in product(range(2), range(12), range(6)):
        k = int(batch.cluster[s, n])
        j = UNEQUAL.partition[k][p]
        assert batch.area[s, n, p] == j
        assert batch.patch_latent[s, n, p] == batch.latents[s, n, j]
        assert torch.equal(patches[s, n, p], batch.latents[s, n, j] * basis.features[k, j])


def cut(images, layout, side):
    """Cut images into the pixel vectors of their patches, patch after patch, row by row."""
    rows, columns = layout.grid
    corners = [(side * row, side * column) for row, column in product(range(rows), range(columns))]
    blocks = [images[..., top : top + side, left : left + side].flatten(-3) for top, left in corners]
    return torch.stack(blocks, dim=2)


class TestImages:
    def test_blocks_have_the_inner_products_of_the_patches(self, batch):
        """The dictionary is orthonormal: the product of two blocks is z z' for a shared feature, else 0."""
        images = batch.images(patch_size=3, seed=7)
        assert images.shape == (2, 12, 3, 6, 9)
        blocks = cut(images, UNEQUAL, 3).flatten(0, 2)
        patches = batch.patches(orthonormal_basis(UNEQUAL)).flatten(0, 2)
        torch.testing.assert_close(blocks @ blocks.T, patches @ patches.T, **ROUND_OFF)
        norms = blocks.square().sum(-1)
        torch.testing.assert_close(norms, batch.patch_latent.flatten() ** 2, **ROUND_OFF)

    def test_every_patch_is_at_its_place(self):
        """In a layout with one odd cell, the odd block stands in that row and column."""
        for place in range(6):
            layout = PatchLayout(partition=(tuple(int(p == place) for p in range(6)),), grid=(2, 3))
            batch = PatchBatch(layout, (0,), torch.zeros(1, 1).long(), torch.tensor([[[1.0, 3.0]]]))
            image = batch.images(patch_size=2, channels=2)[0, 0]
            energy = image.square().sum(0).unfold(0, 2, 2).unfold(1, 2, 2).sum((-2, -1))
            expected = torch.ones(2, 3)
            expected[place // 3, place % 3] = 9.0
            torch.testing.assert_close(energy, expected, rtol=1e-5, atol=0)

    def test_a_square_number_of_patches_needs_no_grid(self):
        bare = PatchLayout(partition=EQUAL.partition)
        batches = [PatchGenerator(layout=layout).sample(4, [1]) for layout in (bare, EQUAL)]
        assert torch.equal(*(batch.images(patch_size=2) for batch in batches))

    def test_the_seed_decides_the_dictionary(self, batch):
        assert torch.equal(batch.images(patch_size=2, seed=1), batch.images(patch_size=2, seed=1))
        assert not torch.equal(batch.images(patch_size=2, seed=1), batch.images(patch_size=2, seed=2))

    @pytest.mark.parametrize(
        ("asked", "field", "remedy"),
        [
            ({"patch_size": 1}, "patch_size", "9 features need patches of 2 pixels a side or more"),
            ({"patch_size": 2, "channels": 1}, "patch_size", "9 features need patches of 3 pixels a side"),
            ({"patch_size": 0}, "patch_size", "must be a whole number, 1 or more"),
            ({"patch_size": 4, "channels": 0}, "channels", "must be a whole number, 1 or more"),
        ],
    )
    def test_bad_values_are_named(self, complaint, batch, asked, field, remedy):
        with complaint(field, remedy):
            batch.images(**asked)

    def test_suggested_patch_size_is_enough(self, batch):
        assert batch.images(patch_size=2).shape[-2:] == (4, 6)
        assert batch.images(patch_size=3, channels=1).shape[-2:] == (6, 9)

    def test_patches_that_fill_no_square_need_a_grid(self, complaint):
        batch = PatchGenerator(layout=PatchLayout.from_sizes([3, 3])).sample(1, [0])
        with complaint("layout.grid", "6 patches fill no square: give the layout a grid"):
            batch.images(patch_size=2)
