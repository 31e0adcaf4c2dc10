"""Finite models against the mean field on the way: the common row of contrast exactly, deviations statistically."""

import numpy as np
import pytest
from finite_size import OneRow, contrast, reconstruction

from vitdyn.data import AreaSizes, PatchLayout, Uniform
from vitdyn.objectives import Contrastive
from vitdyn.reduced.counted_gradient import CountedBatch, counted_gradient
from vitdyn.reduced.symmetry import OrderParameters, Symmetry


def test_the_common_row_of_contrast_has_the_gradient_of_all_rows(rng):
    """The same counts and latents through the reduction by blocks, three clusters with one partition."""
    layout = PatchLayout(partition=PatchLayout.from_sizes([8, 3, 3, 3]).partition * 3)
    symmetry, objective = Symmetry.of(layout), Contrastive(temperature=0.6)
    sizes = AreaSizes(patches=17, global_size=8, local_size=3)
    row = OneRow(sizes, 3, 40, 1, objective, Uniform(), rng)
    cluster, latents, views = row.draw()
    phi = np.array([[0.7, -0.3]])
    order = symmetry.zeros(1)
    feature = order.feature.clone()
    for area in range(layout.areas):
        feature[0, symmetry.feature_table[:, :, area].ravel()] = phi[0, min(area, 1)]
    batch = CountedBatch(cluster[0], latents[0], tuple(view[0] for view in views))
    full = counted_gradient(symmetry, OrderParameters(feature, order.position), objective, batch)
    table = full.feature[0].numpy()[symmetry.feature_table].mean((0, 1))
    found = row.drift(phi, cluster, latents, views)[0]
    np.testing.assert_allclose(found, [table[0], table[1:].mean()], rtol=1e-10)


@pytest.mark.parametrize(
    ("sort", "seeds"), [(reconstruction, (24, 8)), (contrast, (64, 64))], ids=["mae", "cl"]
)
def test_a_larger_model_stays_nearer(sort, seeds):
    """On the way and not only at the end: with sixteen times the patches less than three fifths of the deviation."""
    _, small, error = sort(64, seeds=seeds[0])
    _, large, _ = sort(1024, seeds=seeds[1])
    assert small > 5 * error, "else there is nothing to compare"
    assert large < 0.6 * small < 0.04
