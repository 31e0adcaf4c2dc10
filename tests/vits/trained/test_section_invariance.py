"""Sections of a small ViT (exact): by filter they do not change where queries are rescaled against keys."""

import numpy as np
import pytest

from vitdyn.landscape import Surface, gaussian_direction, normalised, section
from vitdyn.landscape.directions import CONVENTIONS
from vitdyn.vits import METHODS, Pretraining
from vitdyn.vits.loss_surface import loss_surface
from vitdyn.vits.pretraining_loop import first_learner


@pytest.fixture(scope="module")
def surface():
    spec = Pretraining(method=METHODS["reconstruction"](), seed=3)
    return loss_surface(spec, first_learner(spec), images=8)


def rescaled(surface, factor):
    """Return the surface where queries of all blocks are ``factor`` times as large, and keys are smaller by it."""
    parameters = {name: each.clone() for name, each in surface.parameters.items()}
    for name, each in parameters.items():
        each *= factor if ".query." in name else 1 / factor if ".key." in name else 1
    return Surface(surface.loss, parameters)


def values(surface, by):
    along = [gaussian_direction(surface, seed) for seed in (0, 1)]
    along = [normalised(surface, each, by) if by else each / 10 for each in along]
    return section(surface, along, [-0.5, 0.0, 1.0])["loss"].values


@pytest.mark.parametrize("by", [*CONVENTIONS, None])
def test_queries_and_keys_may_be_rescaled(surface, by):
    other = rescaled(surface, 3.0)
    assert other.value() == pytest.approx(surface.value(), rel=1e-12)
    assert np.allclose(values(surface, by), values(other, by), rtol=1e-10) == (by is not None)
