"""Kernels prove themselves on a device that they have not met: a small problem, beside plain torch in float64."""

from __future__ import annotations

import torch

from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.kernels import torch_backend
from vitdyn.kernels.backend import Backend
from vitdyn.kernels.parameters import Correlations
from vitdyn.kernels.workspace import Workspace

TOLERANCE = 2e-5
"""Largest error, of the largest number of a result: some twenty times what the kernels leave."""


def mistakes_of(backend: Backend, device: str) -> str:
    """Return in a few words what a backend gets wrong in float32 on a device, "" where it agrees with torch.

    Forward, means, backward and residual; two clusters, P no power of two, an area wholly masked in one sample and a
    sample wholly visible.
    """
    try:
        found, truth = _results(backend, device, torch.float32), _results(None, "cpu", torch.float64)
    except Exception as error:  # a compiler or a driver may raise anything
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    for name, expected in truth.items():
        off = float((found[name].cpu().double() - expected).abs().max() / expected.abs().max())
        if not off <= TOLERANCE:  # also where it is NaN
            return f"{name} is off by {off:.1e} of its largest value"
    return ""


def _results(backend: Backend | None, device: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return what a backend, or plain torch, makes of the problem."""
    computes = torch_backend if backend is None else backend
    layout = PatchLayout.from_sizes([[41, 21, 9], [30, 30, 11]], seed=0)
    batch = PatchGenerator(layout=layout).sample(19, (0, 1), dtype=dtype, device=device)
    draws = torch.Generator().manual_seed(0)
    view = torch.rand(2, batch.count, layout.patches, generator=draws) < 0.5
    view[0, 0] = True
    view[1, 0, batch.area[1, 0].cpu() == 1] = False
    view = view.to(device)

    # drawn on CPU in float64, rounded to float32: device and reference get the very same numbers
    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draws, dtype=torch.float64).float().to(device=device, dtype=dtype)

    phi, upsilon = (drawn(*block.shape) for block in Correlations.zeros(layout, 2).named().values())
    parameters = Correlations(phi, upsilon)
    cotangent = drawn(*batch.latents.shape, layout.patches)
    attention, saved = computes.forward(parameters, batch, view, Workspace())
    found = {"attention": attention}
    found |= {f"backward of {k}": v for k, v in computes.backward(saved, cotangent).named().items()}
    means, saved = computes.mean_pooled(parameters, batch, view, Workspace())
    found["mean attention"] = means
    residual = computes.residual_gradient(parameters, batch, view, 0.1, Workspace())
    return found | {f"residual gradient of {k}": v for k, v in residual.named().items()}
