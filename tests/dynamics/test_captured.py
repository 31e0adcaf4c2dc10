"""Steps drawn and taken on the device: the fused ones against the plain ones in float64, to the same draws.

Kernels run under Triton's interpreter (TRITON_INTERPRET=0: on a GPU, with the CUDA graph).
"""

import os
from dataclasses import dataclass
from types import SimpleNamespace

os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything loads Triton

import pytest
import torch

from vitdyn.data import Beta, PatchGenerator, PatchLayout, Uniform
from vitdyn.dynamics.captured import CudaGraphStepper
from vitdyn.dynamics.device_batches import DeviceBatches
from vitdyn.dynamics.grid import is_capturable
from vitdyn.dynamics.group import Group
from vitdyn.dynamics.optimizers import Adam, GradientDescent, Momentum
from vitdyn.models import Correlations
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.objectives.contract import draws_views_jointly

pytest.importorskip("triton")
from vitdyn.kernels.cuda import backend as flash

DEVICE = torch.device("cpu" if flash.INTERPRETED else "cuda")
if DEVICE.type == "cuda" and not torch.cuda.is_available():
    pytest.skip("Triton is loaded without its interpreter, and there is no GPU", allow_module_level=True)

RULES = [GradientDescent(learning_rate=4.0), Momentum(learning_rate=1.0), Adam(learning_rate=0.1)]


def batches(seeds=(3, 5), *, sizes=((4, 2), (3, 3)), latents=None, dtype=torch.float32, objective=None):
    generator = PatchGenerator(
        layout=PatchLayout.from_sizes([list(row) for row in sizes], seed=0), latents=latents or Uniform()
    )
    return DeviceBatches(generator, objective or MaskedReconstruction(), seeds, 6, dtype, DEVICE)


def begin(source, optimizer):
    seeds, layout = len(source.seeds), source.generator.layout
    correlations = Correlations.zeros(layout, seeds, dtype=source.dtype, device=DEVICE)
    unset = torch.full((seeds,), -1, device=DEVICE)
    rows = SimpleNamespace(optimizer=optimizer)
    return Group(rows, correlations, optimizer.init(correlations), {}, unset)


def run(source, optimizer, steps, **options):
    group = begin(source, optimizer)
    taken = CudaGraphStepper(group, source, **options)
    for count in steps:
        taken.advance(count)
    assert group.step == sum(steps)
    return group.correlations, group.first_bad


@pytest.mark.parametrize("optimizer", RULES[::2], ids=lambda optimizer: type(optimizer).__name__)
def test_fused_steps_are_the_plain_ones(optimizer):
    """Two steps in float32 against two in float64: the second feels what the first did."""
    fused, bad = run(batches(), optimizer, [1, 1], fused=True)
    plain, _ = run(batches(dtype=torch.float64), optimizer, [2], fused=False)
    assert (bad == -1).all()
    # Adam divides by |∂L/∂Q|: where that is rounding error, so is the direction of its step
    error = 1e-5 if not isinstance(optimizer, Adam) else 1e-3
    for found, truth in zip(fused.named().values(), plain.named().values(), strict=True):
        assert float((found - truth).abs().max() / truth.abs().max()) < error


def test_seed_trains_alone_as_among_others():
    together, _ = run(batches((3, 5)), RULES[0], [1])
    alone, _ = run(batches((5,)), RULES[0], [1])
    for one, both in zip(alone.named().values(), together.named().values(), strict=True):
        assert torch.equal(one[0], both[1])


def test_latents_that_only_the_cpu_draws():
    """A Beta distribution: the step copies what the CPU drew for it."""
    source = batches((4,), sizes=((4, 2),), latents=Beta(low=0.5))
    fused, _ = run(source, RULES[0], [1], fused=True)
    plain, _ = run(source, RULES[0], [1], fused=False)
    for found, truth in zip(fused.named().values(), plain.named().values(), strict=True):
        torch.testing.assert_close(found, truth, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fused", [True, False])
def test_divergence_is_noted_with_its_step(fused):
    """The number of steps then done, for the seed that diverged."""
    source = batches((0, 1), sizes=((3, 2),))
    group = begin(source, RULES[0])
    taken = CudaGraphStepper(group, source, fused=fused)
    for noted in ([-1, -1], [-1, 2]):
        taken.advance(1)
        assert group.first_bad.tolist() == noted
        group.correlations.feature_position[1, 0] = torch.nan


def test_batches_are_a_function_of_seed_and_step():
    sizes = ((5, 3, 2), (7, 3))
    source = batches((3, 5), sizes=sizes, objective=Contrastive())
    batch, (first, second) = source.training(2)
    again, views = batches((5,), sizes=sizes, objective=Contrastive()).training(
        torch.tensor(2, device=DEVICE)
    )
    assert torch.equal(batch.latents[1:], again.latents)
    assert torch.equal(batch.cluster[1:], again.cluster)
    assert torch.equal(first[1:], views[0])
    assert torch.equal(second[1:], views[1])
    assert not torch.equal(first, second)
    assert (batch.cluster.diff(dim=1) >= 0).all()
    exists = torch.from_numpy(batch.layout.sizes > 0).to(DEVICE)
    assert torch.equal(batch.latents > 0, exists[batch.cluster])
    assert (first.sum(-1) == 5).all()
    complementary = batches((3,), sizes=sizes, objective=Contrastive(views="complementary")).views(2)
    assert torch.equal(complementary[0], ~complementary[1])
    assert torch.equal(complementary[0], first[:1])


def test_what_these_steps_take(make_training):
    class Own(MaskedReconstruction):
        def draw_views(self, generator, samples, patches):
            return super().draw_views(generator, samples, patches)

    @dataclass(frozen=True, kw_only=True)
    class Slower(GradientDescent):
        def step(self, correlations, gradient, state, count):
            super().step(correlations, gradient.map(lambda part: part / 2), state, count)

    assert is_capturable(make_training())
    for optimizer in RULES:
        assert is_capturable(make_training(optimizer=optimizer))
    for change in (
        {"objective": Contrastive()},
        {"objective": Own()},
        {"optimizer": Slower(learning_rate=1.0)},
        {"content_queries": True},
        {"dataset_size": 64},
    ):
        assert not is_capturable(make_training(**change)), change
    assert draws_views_jointly(Contrastive())
    assert not draws_views_jointly(Own())
