"""The fused kernels against the plain model in float64, under Triton's interpreter (TRITON_INTERPRET=0: on a GPU).

Truth is the softmax over all keys, differentiated by autograd; errors are parts of the largest entry.
"""

import os
from dataclasses import dataclass, replace

os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything loads Triton

import pytest
import torch

from vitdyn.data import PatchBatch, PatchGenerator, PatchLayout, Uniform
from vitdyn.kernels import Correlations
from vitdyn.kernels.workspace import Workspace
from vitdyn.models import dense_area_attention
from vitdyn.models.reference import attend

pytest.importorskip("triton")
from vitdyn.kernels.cuda import backend as flash
from vitdyn.kernels.cuda.tables import TILE, block_sizes, sample_tiles, slots

DEVICE = torch.device("cpu" if flash.INTERPRETED else "cuda")
if DEVICE.type == "cuda" and not torch.cuda.is_available():
    pytest.skip("Triton is loaded without its interpreter, and there is no GPU", allow_module_level=True)

ERROR = 1e-5
SIZES = {"one": [[13, 5, 1]], "several": [[9, 1, 4], [6, 8]]}


def relative(found, truth):
    return float((found.cpu().double() - truth).abs().max() / truth.abs().max())


@dataclass
class Case:
    """A batch, what it shows, a model and ∂L/∂A, in float64; ``arguments`` in float32 for the kernels."""

    batch: PatchBatch
    visible: torch.Tensor
    correlations: Correlations
    cotangent: torch.Tensor

    @property
    def arguments(self):
        move = lambda tensor: tensor.to(DEVICE, torch.float32)  # noqa: E731
        batch = self.batch
        lent = replace(batch, latents=move(batch.latents), cluster=batch.cluster.to(DEVICE))
        return self.correlations.map(move), lent, self.visible.to(DEVICE)

    @property
    def scale(self):
        return 1 / self.batch.count

    def truth(self, adjoint):
        """A and ∂/∂(Φ, Υ) of Σ A · adjoint, by the dense model; ``adjoint`` may depend on A."""
        leaves = self.correlations.map(lambda block: block.clone().requires_grad_())
        attention = dense_area_attention(attend(leaves, self.batch, self.visible), self.batch, self.visible)
        given = adjoint(attention.detach()) if callable(adjoint) else adjoint
        gradient = torch.autograd.grad((attention * given).sum(), list(leaves.named().values()))
        return attention.detach(), gradient

    def residual(self, attention):
        member = torch.nn.functional.one_hot(self.batch.area, self.batch.layout.areas).transpose(2, 3)
        return (
            self.scale
            * self.batch.latents.square()[..., None]
            * (attention - member)
            * ~self.visible[:, :, None]
        )


def make(sizes, samples, *, seeds=2, phi=1.0, upsilon=1.0, share=0.5):
    draws = torch.Generator().manual_seed(samples)
    layout = PatchLayout.from_sizes(sizes, seed=1)
    generator = PatchGenerator(layout=layout, latents=Uniform(low=0.5, high=2.0))
    batch = generator.sample(samples, range(seeds))
    visible = torch.rand(seeds, samples, layout.patches, generator=draws) < share
    visible[0, 0], visible[0, 1] = True, False
    visible[-1, 0, batch.area[-1, 0] == 1] = False
    normal = lambda *shape: torch.randn(shape, generator=draws, dtype=torch.float64)  # noqa: E731
    zeros = Correlations.zeros(layout, seeds)
    sizes = (phi, upsilon)
    blocks = [normal(*block.shape) * size for block, size in zip(zeros.named().values(), sizes, strict=True)]
    cotangent = normal(seeds, samples, layout.areas, layout.patches)
    return Case(batch, visible, Correlations(*blocks), cotangent)


@pytest.fixture
def case(monkeypatch):
    """Two blocks of queries, two tiles of samples, each not full."""
    monkeypatch.setattr(flash, "block_sizes", lambda layout, samples: (32, 16))
    return make([[37, 3]], 20, seeds=1)


def test_several_tiles(case):
    """What ``test_backends`` tests of each backend, where blocks of queries and tiles of samples are several."""
    attention, gradient = case.truth(case.cotangent)
    found, saved = flash.forward(*case.arguments, Workspace())
    assert relative(found, attention) < ERROR
    for block, truth in zip(
        flash.backward(saved, case.cotangent.to(DEVICE, torch.float32)).named().values(),
        gradient,
        strict=True,
    ):
        assert relative(block, truth) < ERROR
    _, gradient = case.truth(case.residual)
    found = flash.residual_gradient(*case.arguments, case.scale, Workspace())
    for block, truth in zip(found.named().values(), gradient, strict=True):
        assert relative(block, truth) < ERROR


@pytest.mark.parametrize(
    ("phi", "upsilon", "share", "error"),
    [(40.0, 2.0, 0.5, 2e-5), (1.0, 8.0, 0.5, ERROR), (3.0, 1.0, 0.95, ERROR)],
)
def test_large_correlations_and_few_masked_patches(phi, upsilon, share, error):
    """At |zΦ| ~ 200 one unit in the last place of an exponent is 8e-6, whatever computes it."""
    case = make(SIZES["one"], 6, seeds=1, phi=phi, upsilon=upsilon, share=share)
    _, gradient = case.truth(case.residual)
    found = flash.residual_gradient(*case.arguments, case.scale, Workspace())
    for block, truth in zip(found.named().values(), gradient, strict=True):
        assert relative(block, truth) < error


def test_masked_mass_keeps_its_digits_beside_favoured_visible_keys():
    """Keys that Υ favours are visible and Φ suppresses them: W_0 is far below a unit in the last place of Σ_q E."""
    case = make([[8, 6]], 3, seeds=1)
    favoured = torch.from_numpy(case.batch.layout.area_of_patch[0] == 0)
    case.visible[:, 1:, favoured] = True
    case.visible[:, 1:, favoured.logical_not().nonzero()[0]] = False
    case.correlations.position_position[..., favoured] += 20.0
    case.correlations.feature_position[..., 0] = -20.0
    attention, gradient = case.truth(case.residual)
    found, _ = flash.forward(*case.arguments, Workspace())
    assert relative(found, attention) < ERROR
    pulled = flash.residual_gradient(*case.arguments, case.scale, Workspace())
    assert relative(pulled.feature_position, gradient[0]) < ERROR


def test_products_without_tensor_cores(monkeypatch):
    monkeypatch.setattr(flash, "SPLIT", False)
    case = make(SIZES["one"], 5, seeds=1)
    found, _ = flash.forward(*case.arguments, Workspace())
    assert relative(found, case.truth(case.cotangent)[0]) < ERROR


def test_step_of_descent_inside_the_kernel():
    """Q − η ∂L/∂Q in place, η of each seed; a seed that stops being finite says so once, the others go on."""
    case = make([[6, 4]], 4)
    correlations, batch, visible = case.arguments
    layout = batch.layout
    gradient = flash.residual_gradient(correlations, batch, visible, case.scale, Workspace())
    rates = torch.tensor([0.5, 2.0], device=DEVICE)
    expected = correlations.map(
        lambda block, slope: block - rates.view(-1, *[1] * (block.ndim - 1)) * slope, gradient
    )
    tables = slots(layout, DEVICE)
    words = torch.empty(2, tables.tiles, 4, dtype=torch.int32, device=DEVICE)
    problem = flash.Problem(
        layout,
        *correlations.map(torch.clone).named().values(),
        batch.latents,
        flash.pack(visible, batch.cluster, layout, words),
        flash.tile_samples(batch.cluster, layout),
        tables,
    )
    step, bad = torch.tensor(7, device=DEVICE), torch.full((2,), -1, device=DEVICE)
    scratch = flash.empty_gradient(problem, Workspace())
    flash.launch_residual(problem, case.scale, scratch, (rates, bad, step))
    assert bad.tolist() == [-1, -1]
    torch.testing.assert_close(problem.phi, expected.feature_position, rtol=0, atol=1e-6)
    torch.testing.assert_close(problem.upsilon, expected.position_position, rtol=0, atol=1e-6)
    problem.latents[1] = torch.nan
    flash.launch_residual(problem, case.scale, scratch, (rates, bad, step))
    assert bad.tolist() == [-1, 8]
    assert problem.upsilon[0].isfinite().all()


def test_seed_does_not_depend_on_its_neighbours():
    """To the bit, with clusters drawn differently in each seed."""
    case = make(SIZES["several"], 5)
    together = flash.residual_gradient(*case.arguments, case.scale, Workspace())
    correlations, batch, visible = case.arguments
    one = replace(batch, seeds=(1,), latents=batch.latents[1:2], cluster=batch.cluster[1:2])
    second = correlations.map(lambda block: block[1:2])
    alone = flash.residual_gradient(second, one, visible[1:2], case.scale, Workspace())
    for one, all_seeds in zip(alone.named().values(), together.named().values(), strict=True):
        assert torch.equal(one[0], all_seeds[1])


def test_slots_hold_each_position_once_in_tiles_of_its_area():
    layout = PatchLayout.from_sizes([[40, 33, 1], [70, 4]], seed=0)
    tables = slots(layout, torch.device("cpu"))
    for cluster, areas in enumerate(layout.area_of_patch):
        position, slot = tables.position[cluster], tables.slot[cluster]
        assert torch.equal(position[slot.long()], torch.arange(layout.patches, dtype=torch.int32))
        assert int((position >= 0).sum()) == layout.patches
        for area in range(layout.areas):
            start, stop = tables.edges[cluster, area : area + 2].tolist()
            members = position[start * TILE : stop * TILE]
            assert sorted(members[members >= 0].tolist()) == (areas == area).nonzero()[0].tolist()


@pytest.mark.parametrize("size", [1, 3, 16])
def test_sample_tiles_hold_each_sample_once_with_its_cluster(size):
    cluster = torch.tensor([[2, 0, 0, 2, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]])
    for given, ordered in ((cluster, False), (cluster.sort(1).values, True)):
        tiles = sample_tiles(given, 3, size, ordered=ordered)
        for seed, (table, count) in enumerate(zip(tiles.table.tolist(), tiles.count.tolist(), strict=True)):
            seen = []
            for number, start, stop in table[:count]:
                assert 0 < stop - start <= size
                members = tiles.order[seed, start:stop].long()
                assert (given[seed, members] == number).all()
                seen += members.tolist()
            assert sorted(seen) == list(range(7))


def test_blocks_fit_the_registers_and_know_nothing_of_seeds():
    for areas in (2, 4, 7, 16):
        layout = PatchLayout.from_sizes([[64] * areas], seed=0)
        queries, samples = block_sizes(layout, 256)
        assert queries >= 16
        assert samples >= 16
        assert queries * samples * areas <= 2**14
    assert flash.supports(layout, torch.float32)
    assert not flash.supports(layout, torch.float64)
    assert not flash.supports(PatchLayout.from_sizes([[8] * 17], seed=0), torch.float32)
