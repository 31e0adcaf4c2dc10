"""What all tests share: one thread, the seed, complaints, random problems and the dense model.

The seed is 0, or what the environment variable VITDYN_TEST_SEED says. Tests are exact (an identity, to the
round-off that is said) unless their file says otherwise.
"""

import os
import re
import sys
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import pytest
import torch

from vitdyn import _registry
from vitdyn._code import is_library
from vitdyn.data import PatchBatch, PatchGenerator, PatchLayout, Uniform, orthonormal_basis
from vitdyn.dynamics.gradient import forward_pass
from vitdyn.models import Correlations

torch.set_num_threads(1)  # the tests are small, and threads that share a core with others are far slower

PATCH_COUNTS = (7, 9, 10, 11, 13)


@pytest.fixture
def rng(request):
    """A generator of this test alone, from the seed and the test's name."""
    seed = int(os.environ.get("VITDYN_TEST_SEED", "0"))
    return np.random.default_rng([seed, crc32(request.node.nodeid.encode())])


@pytest.fixture
def registering():
    """Forget, when the test is over, what it registered and imported by file."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in sys.modules.keys() - modules:
        if not is_library(name):  # numpy and its like cannot be loaded twice
            del sys.modules[name]
    for table in _registry._TABLES:
        table.added.clear()


@pytest.fixture(scope="session", autouse=True)
def small_pictures():
    """Draw few points an inch: most of what a picture takes is to draw them and to pack them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vitdyn.plotting.drawing.PICTURE_DPI", 50)
        yield


@pytest.fixture(scope="session")
def complaint():
    """Expect a ValueError of one line, ``field = value: remedy``."""

    def expect(field, remedy=""):
        message = rf"\A{re.escape(field)} = [^\n]*: [^\n]*{re.escape(remedy)}[^\n]*\Z"
        return pytest.raises(ValueError, match=message)

    return expect


@pytest.fixture(scope="session")
def close():
    """Assert that two tensors, or all blocks of two models, agree to a part of the largest entry."""

    def check(first, second, tolerance=1e-10):
        pairs = [(first, second)]
        if isinstance(first, Correlations):
            assert first.named().keys() == second.named().keys()
            pairs = list(zip(first.named().values(), second.named().values(), strict=True))
        scale = max(float(truth.abs().max()) for _, truth in pairs)
        for found, truth in pairs:
            assert found.shape == truth.shape
            assert float((found - truth).abs().max()) <= tolerance * scale

    return check


@dataclass
class Problem:
    """A batch, masked views of it and a model, with a random orthonormal basis to write it in."""

    batch: PatchBatch
    views: tuple[torch.Tensor, ...]
    correlations: Correlations

    @property
    def basis(self):
        return orthonormal_basis(self.batch.layout, seed=5)

    def arguments(self, view=0):
        """What ``area_attention`` takes after the correlations."""
        return self.batch, self.views[view]

    def forward(self, memory=None):
        return forward_pass(self.correlations, self.batch, self.views, memory or {})


def random_layout(rng, clusters):
    patches = int(rng.choice(PATCH_COUNTS))
    sizes = []
    for cluster in range(clusters):
        cuts = rng.choice(np.arange(1, patches), size=1 + (cluster + int(rng.integers(3))) % 3, replace=False)
        sizes.append(np.diff([0, *sorted(cuts), patches]).tolist())
    return PatchLayout.from_sizes(sizes, seed=int(rng.integers(1000)))


def random_visible(rng, batch):
    """Draw views with every kind of sample: half seen, one patch seen, one area hidden; at times all seen."""
    seeds, samples, patches = batch.area.shape
    visible = rng.random((seeds, samples, patches)) < rng.choice([0.3, 0.5, 0.7])
    all_seen = rng.random() < 0.3
    for seed in range(seeds):
        kinds = rng.permutation(samples)
        visible[seed, kinds[0]] |= all_seen
        visible[seed, kinds[1]] = np.arange(patches) == rng.integers(patches)
        visible[seed, kinds[2]] &= batch.area[seed, kinds[2]].numpy() != rng.integers(2)
    return torch.from_numpy(visible)


@pytest.fixture
def make_problem(rng):
    """Build a random problem: K, N, P, sizes, seeds and samples differ from one to the next.

    Φ and Υ come small or large, so that both branches of the factored forward are met.
    """

    def make(*, clusters=None, content=False, complementary=False, scale=None, samples=None, seeds=None):
        layout = random_layout(rng, clusters or int(rng.integers(1, 4)))
        numbers = tuple(range(seeds or int(rng.integers(1, 4))))
        count = samples or int(rng.integers(4, 7))
        batch = PatchGenerator(layout=layout, latents=Uniform(low=0.5, high=2.0)).sample(
            count, numbers, step=int(rng.integers(10_000))
        )
        first = random_visible(rng, batch)
        views = (first, ~first if complementary else random_visible(rng, batch))
        size = scale or float(rng.choice([0.3, 3.0]))
        exists = torch.from_numpy(layout.sizes > 0).double()
        zeros = Correlations.zeros(layout, len(numbers), content_queries=content)
        model = zeros.map(lambda block: size * torch.from_numpy(rng.standard_normal(block.shape)))
        kept = {"feature_position": exists}
        if content:
            kept |= {
                "content_position": exists[..., None],
                "content_content": exists[..., None] * exists[:, None],
            }
        blocks = {name: block * kept.get(name, 1.0) for name, block in model.named().items()}
        return Problem(batch, views, Correlations(**blocks))

    return make


class DenseModel:
    """The theory in R^d, written out: tokens, softmax over all keys, F_p as vectors, losses of these."""

    def __init__(self, problem, *, content=False):
        self.batch, self.views, self.content = problem.batch, problem.views, content
        self.positions = problem.basis.positions
        self.patches = problem.batch.patches(problem.basis)

    def outputs(self, matrix, view):
        shown = self.patches * self.views[view][..., None]
        tokens = shown + self.positions
        queries = tokens if self.content else self.positions.expand_as(tokens)
        logits = queries @ matrix[:, None] @ tokens.transpose(-1, -2)
        weights = torch.exp(logits - logits.detach().amax(-1, keepdim=True))
        return weights / weights.sum(-1, keepdim=True) @ shown

    def masked_reconstruction(self, matrix):
        errors = (self.outputs(matrix, 0) - self.patches).square().sum(-1)
        return 0.5 * (errors * ~self.views[0]).sum(-1).mean(-1)

    def contrastive(self, matrix, temperature, weight_decay):
        pooled = [self.outputs(matrix, view).mean(2) for view in (0, 1)]
        total = 0.5 * weight_decay * matrix.square().sum((1, 2))
        count = self.batch.count
        for b in range(count):
            likeness = [
                (pooled[0][:, b] * pooled[1][:, c].detach()).sum(-1) / temperature for c in range(count)
            ]
            total = total - (likeness[b] - torch.stack(likeness).logsumexp(0)) / count
        return total

    def loss(self, objective, matrix):
        if objective.name == "mae":
            return self.masked_reconstruction(matrix)
        return self.contrastive(matrix, objective.temperature, objective.weight_decay)


@pytest.fixture(scope="session")
def dense_model():
    return DenseModel
