"""The classes of a layout against every relabelling there is, and what they must preserve. Exact."""

from itertools import permutations

import numpy as np
import pytest
import torch
from enumeration import LAYOUTS, classes, embed, population, project, random_order

from vitdyn.data import PatchLayout
from vitdyn.dynamics import loss_gradient
from vitdyn.models import Correlations
from vitdyn.objectives import MaskedReconstruction
from vitdyn.reduced.symmetry import Symmetry

layouts = pytest.mark.parametrize("name", LAYOUTS)


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
    feature, pair = classes(symmetry)
    feature = feature.reshape(patches, features)
    assert same_partition(feature[feature >= 0], by_feature[feature >= 0])
    by_pair = (moves[:, :, None] * patches + moves[:, None]).min(0)
    assert same_partition(pair.ravel(), by_pair.ravel())


@layouts
def test_classes_are_numbered_without_a_gap(name):
    symmetry = Symmetry.of(LAYOUTS[name])
    feature, pair = classes(symmetry)
    count, pairs, positions = symmetry.counts
    assert set(feature[feature >= 0]) == set(range(count))
    assert set(pair.ravel()) == set(range(pairs + positions))
    assert ((feature < 0) == (symmetry.layout.sizes == 0)).all()


@pytest.mark.parametrize("name", [name for name in LAYOUTS if LAYOUTS[name].patches < 9])
def test_population_gradient_keeps_the_symmetry(name, rng, close):
    symmetry = Symmetry.of(LAYOUTS[name])
    assert symmetry.counts[1] < symmetry.layout.patches * (symmetry.layout.patches - 1)
    state = embed(symmetry, random_order(symmetry, rng))
    objective = MaskedReconstruction()
    batch, visible = population(symmetry.layout, round(symmetry.layout.patches / 2))
    gradient, _ = loss_gradient(state, objective, batch, (visible,), {})
    close(gradient, embed(symmetry, project(symmetry, gradient)), 1e-12)


def test_population_gradient_breaks_a_symmetry_that_is_none(rng):
    # Positions of an area of two and of an area of one, exchanged: no symmetry, and the test above can see it.
    layout = PatchLayout(partition=((0, 0, 0, 1, 1, 2),))
    coarse = Symmetry.of(PatchLayout(partition=((0, 0, 0, 1, 1, 1),)))
    order = random_order(coarse, rng)
    narrow = embed(coarse, order)
    phi = torch.cat([narrow.feature_position, narrow.feature_position[..., 1:]], -1)
    batch, visible = population(layout, 3)
    gradient, _ = loss_gradient(
        Correlations(phi, narrow.position_position), MaskedReconstruction(), batch, (visible,), {}
    )
    pair = Correlations(gradient.feature_position[..., :2], gradient.position_position)
    away = pair.map(torch.sub, embed(coarse, project(coarse, pair)))
    assert float(away.position_position.abs().max()) > 1e-3


def test_number_of_classes_does_not_grow_with_the_image():
    # Global, larger and smaller local areas; Φ: 3 from a global query, 4 from each local one. Υ likewise, and self.
    for patches in (256, 4096):
        symmetry = Symmetry.of(PatchLayout.from_exponents(patches, 0.9, 0.3))
        assert symmetry.counts == (11, 11, 3)


def test_areas_that_differ_are_not_exchanged():
    symmetry = Symmetry.of(LAYOUTS["one cluster, unequal areas"])
    areas = symmetry.layout.area_of_patch[0]
    found = [set(symmetry.block_class[symmetry.block][areas == area]) for area in range(5)]
    assert found[1] == found[2]
    assert len(set.union(*found)) == 4  # the global area of 3, two of 2, a local one of 3, one of 1


def test_complaints(complaint):
    with complaint("layout", "must be a PatchLayout"):
        Symmetry.of("layout")
