"""The classes of a layout against every relabelling there is, and what they must preserve. Exact."""

from itertools import permutations

import numpy as np
import pytest
import torch
from enumeration import LAYOUTS, population, random_order

from vitdyn.data import PatchLayout
from vitdyn.dynamics import loss_gradient
from vitdyn.models import Correlations
from vitdyn.objectives import MaskedReconstruction
from vitdyn.reduced.symmetry import Symmetry

layouts = pytest.mark.parametrize("name", LAYOUTS)


def random_state(layout, rng, seeds=2):
    exists = torch.from_numpy(layout.sizes > 0)
    state = Correlations.zeros(layout, seeds).map(
        lambda block: torch.from_numpy(rng.standard_normal(block.shape))
    )
    return Correlations(state.feature_position * exists, state.position_position)


def relabellings(layout):
    """Every permutation of positions that only relabels local areas and clusters, with the image of each feature."""
    table, clusters = layout.area_of_patch, layout.clusters
    for moved in permutations(range(layout.patches)):
        for order in permutations(range(clusters)):
            image = {}
            for cluster in range(clusters):
                pairs = set(
                    zip(table[cluster].tolist(), table[order[cluster]][list(moved)].tolist(), strict=True)
                )
                if len(pairs) != len({old for old, _ in pairs}) or (0, 0) not in pairs:
                    break
                image |= {(cluster, old): (order[cluster], new) for old, new in pairs}
            else:
                yield moved, image


def same_partition(classes, least):
    """Whether two entries share a class just where they share the least member of their orbit."""
    both = len(np.unique(np.stack([classes, least]), axis=1).T)
    return both == len(np.unique(classes)) == len(np.unique(least))


@layouts
def test_classes_are_the_orbits_of_all_relabellings(name):
    layout = LAYOUTS[name]
    if layout.patches > 8:
        layout = PatchLayout(partition=((0, 1, 0, 2, 1, 2, 0, 3),))
    symmetry = Symmetry.of(layout)
    patches, features = layout.patches, layout.sizes.size
    positions, images = [], []
    for moved, image in relabellings(layout):
        feature = np.arange(features)
        for (cluster, area), (to, new) in image.items():
            feature[cluster * layout.areas + area] = to * layout.areas + new
        positions.append(moved)
        images.append(feature)
    moves = np.array(positions)
    # The relabellings are a group, so that an orbit is the set of all images.
    by_feature = (moves[:, :, None] * features + np.array(images)[:, None]).min(0)
    exists = symmetry.feature_class.reshape(patches, features) >= 0
    assert same_partition(symmetry.feature_class.reshape(patches, features)[exists], by_feature[exists])
    by_pair = (moves[:, :, None] * patches + moves[:, None]).min(0)
    assert same_partition(symmetry.position_pair_class.ravel(), by_pair.ravel())


@layouts
def test_lower_undoes_lift_to_the_bit(name, rng):
    symmetry = Symmetry.of(LAYOUTS[name])
    order = random_order(symmetry, rng, seeds=3)
    again = symmetry.project(symmetry.embed(order))
    assert torch.equal(again.feature, order.feature)
    assert torch.equal(again.position, order.position)


@layouts
def test_lift_of_lower_is_the_orthogonal_projection(name, rng, close):
    symmetry = Symmetry.of(LAYOUTS[name])
    first, second = (random_state(symmetry.layout, rng) for _ in range(2))
    projected = symmetry.embed(symmetry.project(first))
    close(symmetry.embed(symmetry.project(projected)), projected, 1e-14)
    rest = first.map(torch.sub, projected)
    other = symmetry.embed(symmetry.project(second))
    inner = sum((rest.named()[part] * other.named()[part]).sum() for part in rest.named())
    assert abs(float(inner)) < 1e-11


@layouts
def test_sizes_count_the_correlations_of_each_class(name):
    symmetry = Symmetry.of(LAYOUTS[name])
    classes = symmetry.feature_class
    assert (np.bincount(classes[classes >= 0]) == symmetry.feature_sizes).all()
    assert (np.bincount(symmetry.position_pair_class.ravel()) == symmetry.position_pair_sizes).all()
    assert (np.bincount(symmetry.position_class) == symmetry.class_sizes).all()
    assert ((classes < 0) == (symmetry.layout.sizes == 0)).all()


@pytest.mark.parametrize("name", [name for name in LAYOUTS if LAYOUTS[name].patches < 9])
def test_population_gradient_keeps_the_symmetry(name, rng, close):
    symmetry = Symmetry.of(LAYOUTS[name])
    assert len(symmetry.pair_sizes) < symmetry.layout.patches * (symmetry.layout.patches - 1)
    state = symmetry.embed(random_order(symmetry, rng))
    objective = MaskedReconstruction()
    batch, visible = population(symmetry.layout, round(symmetry.layout.patches / 2))
    gradient, _ = loss_gradient(state, objective, batch, (visible,), {})
    close(gradient, symmetry.embed(symmetry.project(gradient)), 1e-12)


def test_population_gradient_breaks_a_symmetry_that_is_none(rng):
    # Positions of an area of two and of an area of one, exchanged: no symmetry, and the test above can see it.
    layout = PatchLayout(partition=((0, 0, 0, 1, 1, 2),))
    coarse = Symmetry.of(PatchLayout(partition=((0, 0, 0, 1, 1, 1),)))
    order = random_order(coarse, rng)
    narrow = coarse.embed(order)
    phi = torch.cat([narrow.feature_position, narrow.feature_position[..., 1:]], -1)
    batch, visible = population(layout, 3)
    gradient, _ = loss_gradient(
        Correlations(phi, narrow.position_position), MaskedReconstruction(), batch, (visible,), {}
    )
    pair = Correlations(gradient.feature_position[..., :2], gradient.position_position)
    away = pair.map(torch.sub, coarse.embed(coarse.project(pair)))
    assert float(away.position_position.abs().max()) > 1e-3


def test_number_of_classes_does_not_grow_with_the_image():
    # Global, larger and smaller local areas; Φ: 3 from a global query, 4 from each local one. Υ likewise, and self.
    for patches in (256, 4096):
        symmetry = Symmetry.of(PatchLayout.from_exponents(patches, 0.9, 0.3))
        assert len(symmetry.class_sizes) == 3
        assert len(symmetry.feature_sizes) == len(symmetry.pair_sizes) == 11


def test_areas_that_differ_are_not_exchanged():
    symmetry = Symmetry.of(LAYOUTS["one cluster, unequal areas"])
    areas = symmetry.layout.area_of_patch[0]
    classes = [set(symmetry.position_class[areas == area]) for area in range(5)]
    assert classes[1] == classes[2]
    assert len(set.union(*classes)) == 4  # the global area of 3, two of 2, a local one of 3, one of 1


def test_complaints(complaint, rng):
    with complaint("layout", "must be a PatchLayout"):
        Symmetry.of("layout")
    symmetry = Symmetry.of(LAYOUTS["two clusters"])
    with complaint("correlations", "position queries only"):
        symmetry.project(Correlations.zeros(symmetry.layout, 1, content_queries=True))
