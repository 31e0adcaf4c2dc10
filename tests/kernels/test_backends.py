"""Every backend against the dense model in float64, at random shapes (exact: errors are parts of the largest entry)."""

import os
from dataclasses import replace
from types import SimpleNamespace

os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything loads Triton

import pytest
import torch

from vitdyn.kernels import Correlations, torch_backend
from vitdyn.kernels.self_check import mistakes_of
from vitdyn.kernels.workspace import Workspace
from vitdyn.models import dense_area_attention
from vitdyn.models.reference import attend

DOUBLE, SINGLE = (torch.float64, 1e-12), (torch.float32, 1e-5)


def loaded(name):
    if name == "torch":
        return torch_backend
    module = pytest.importorskip(f"vitdyn.kernels.{name}.backend")
    if not getattr(module, "INTERPRETED", True) and not torch.cuda.is_available():
        pytest.skip("Triton is loaded without its interpreter, and there is no GPU")
    return module


@pytest.fixture(
    params=[("torch", DOUBLE), ("torch", SINGLE), ("cpu", DOUBLE), ("cpu", SINGLE), ("cuda", SINGLE)],
    ids=lambda param: f"{param[0]}-{param[1][0]}".replace("torch.", ""),
)
def backend(request):
    name, (dtype, error) = request.param
    return loaded(name), dtype, error


@pytest.mark.parametrize("case", range(3))
def test_equals_the_dense_model(backend, case, rng, make_problem):
    """Attention, its mean, and what each of three losses gives back: of any A, of the mean, of a residual."""
    computes, dtype, error = backend
    problem = make_problem(seeds=2, samples=4, scale=1.0)
    view, seeds = problem.views[0], 2
    device = "cpu" if getattr(computes, "INTERPRETED", True) else "cuda"
    cast = lambda tensor: tensor.to(device, dtype)  # noqa: E731
    parameters, latents = problem.correlations.map(cast), cast(problem.batch.latents)
    lent = replace(problem.batch, latents=latents, cluster=problem.batch.cluster.to(device))

    # the truth of the numbers that the backend is given, which are rounded
    batch = replace(problem.batch, latents=latents.cpu().double())
    leaves = parameters.map(lambda block: block.cpu().double().clone().requires_grad_())
    truth = dense_area_attention(attend(leaves, batch, view), batch, view)

    def close(found, right):
        assert float((found.cpu().double() - right).abs().max()) <= error * max(
            float(right.abs().max()), 1e-3
        )

    def gradients_close(found, value):
        right = torch.autograd.grad(value, list(leaves.named().values()), retain_graph=True)
        for one, other in zip(found.named().values(), right, strict=True):
            close(one, other)

    cotangent = torch.from_numpy(rng.standard_normal(truth.shape))
    attention, saved = computes.forward(parameters, lent, view.to(device), Workspace())
    close(attention, truth.detach())
    gradients_close(computes.backward(saved, cast(cotangent)), (truth * cotangent).sum())
    means, saved = computes.mean_pooled(parameters, lent, view.to(device), Workspace())
    close(means, truth.detach().mean(-1))
    one = cotangent[..., :1]
    gradients_close(computes.backward(saved, cast(one)), (truth * one).sum())
    scale = torch.from_numpy(rng.uniform(0.1, 1.0, seeds))
    residual = (truth - batch.membership) * batch.latents[..., None] * ~view[:, :, None]
    loss = 0.5 * (residual.square().sum((1, 2, 3)) * scale).sum()
    for number in (cast(scale), 1.0):
        found = computes.residual_gradient(parameters, lent, view.to(device), number, Workspace())
        gradients_close(found, loss)
        loss = 0.5 * residual.square().sum()


class TestSelfCheck:
    """A GPU is not believed before it has computed a small problem; any backend can stand for one here."""

    @pytest.mark.parametrize("name", ["torch", "cpu", "cuda"])
    def test_what_is_right_passes(self, name):
        computes = loaded(name)
        assert mistakes_of(computes, "cpu" if getattr(computes, "INTERPRETED", True) else "cuda") == ""

    @pytest.mark.parametrize("piece", ["forward", "backward", "mean_pooled", "residual_gradient"])
    def test_a_wrong_piece_is_named(self, piece):
        def twice(*given):
            found = getattr(torch_backend, piece)(*given)
            if isinstance(found, Correlations):
                return replace(found, position_position=2 * found.position_position)
            return 2 * found[0], found[1]

        wrong = SimpleNamespace(**vars(torch_backend) | {piece: twice})
        words = {
            "forward": "attention",
            "mean_pooled": "mean attention",
            "residual_gradient": "residual gradient",
        }
        assert mistakes_of(wrong, "cpu").startswith(words.get(piece, piece)) and "off by" in mistakes_of(
            wrong, "cpu"
        )

    def test_one_that_raises_is_named(self):
        def fails(*given):
            raise RuntimeError("no kernel image is available\nfor this device")

        wrong = SimpleNamespace(**vars(torch_backend) | {"forward": fails})
        assert mistakes_of(wrong, "cpu") == "RuntimeError: no kernel image is available for this device"

    def test_not_a_number_is_a_mistake(self):
        def lost(*given):
            attention, saved = torch_backend.forward(*given)
            return attention * torch.nan, saved

        assert "nan" in mistakes_of(SimpleNamespace(**vars(torch_backend) | {"forward": lost}), "cpu")
