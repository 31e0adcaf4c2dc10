"""Small runs, and what it means that two of them agree."""

import numpy as np
import pytest
import torch

from vitdyn.data import PatchGenerator, PatchLayout, Uniform
from vitdyn.dynamics import Schedule, Training, loss_gradient
from vitdyn.dynamics.batches import BatchSource
from vitdyn.objectives import Contrastive, MaskedReconstruction

OBJECTIVES = {"mae": MaskedReconstruction(), "cl": Contrastive(weight_decay=0.001)}


@pytest.fixture(scope="session")
def make_training():
    """Build a run of a few steps: P = 11, K = 2 with unequal areas, two seeds, float64."""

    def make(objective="mae", *, sizes=((6, 3, 2), (5, 6)), **changes):
        layout = PatchLayout.from_sizes(sizes, seed=2)
        small = {
            "steps": 12,
            "batch_size": 6,
            "evaluation_samples": 5,
            "seeds": (3, 8),
            "schedule": Schedule(spacing="linear", frames=5),
            "precision": "float64",
            "generator": PatchGenerator(layout=layout, latents=Uniform(low=0.5, high=1.5)),
        }
        return Training(objective=OBJECTIVES.get(objective, objective), **small | changes)

    return make


@pytest.fixture(scope="session")
def source_of():
    """Where a run takes its batches from."""

    def build(training):
        seeds, samples, size = training.seed_numbers, training.batch_size, training.dataset_size
        place = torch.float64, torch.device("cpu")
        return BatchSource(training.generator, training.objective, seeds, samples, size, *place)

    return build


@pytest.fixture(scope="session")
def identical():
    """Assert that two trajectories hold the same bits."""

    def check(first, second):
        assert first.dataset.equals(second.dataset)
        assert first.dataset.attrs.keys() == second.dataset.attrs.keys()

    return check


@pytest.fixture(scope="session")
def agree():
    """Assert that two datasets of the same variables agree to round-off."""

    def check(first, second, tolerance=1e-12):
        assert set(first) == set(second)
        for name in first:
            np.testing.assert_allclose(first[name], second[name], rtol=0, atol=tolerance, err_msg=str(name))

    return check


@pytest.fixture
def stop_after(monkeypatch):
    """Make the n-th step of every run from here on raise an error, or call a function, instead of ending."""

    def arrange(count, error):
        done = []

        def counted(*given, **model):
            done.append(None)
            if len(done) == count:
                if callable(error) and not isinstance(error, type):
                    error()
                else:
                    raise error
            return loss_gradient(*given, **model)

        monkeypatch.setattr("vitdyn.dynamics.steppers.loss_gradient", counted)
        return done

    return arrange


@pytest.fixture
def cores(monkeypatch):
    """Set how many threads torch may take, for one test in which no work is too small for them."""
    monkeypatch.setattr("vitdyn.dynamics.memory.LEAST_WORK", 0)
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
