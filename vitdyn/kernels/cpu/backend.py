"""The backend of the CPU: hands tensors, as numpy arrays without a copy, to the compiled kernels of ``kernels``.

Each kernel releases the interpreter's lock, so that groups of seeds run side by side on threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn.data import PatchBatch, PatchLayout
from vitdyn.kernels.cpu import kernels
from vitdyn.kernels.cpu.pooling import FOLDED
from vitdyn.kernels.cpu.scratch import allocate
from vitdyn.kernels.cpu.simd import lanes, machine_has
from vitdyn.kernels.parameters import Correlations
from vitdyn.kernels.workspace import Workspace


@dataclass(frozen=True)
class Saved:
    """What the forward leaves for ``backward``: its arguments. To make E and W again costs less than to store them."""

    parameters: Correlations
    batch: PatchBatch
    view: Tensor
    workspace: Workspace


def name() -> str:
    """Name what computes, with the widest vectors that the kernels are compiled for."""
    widths = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "neon": "NEON"}
    width = next((name for feature, name in widths.items() if machine_has(feature)), "no vectors")
    return f"compiled kernels ({width})"


def supports(layout: PatchLayout, dtype: torch.dtype) -> bool:
    """Return whether the kernels take this layout and type."""
    return dtype in (torch.float32, torch.float64)


def forward(
    parameters: Correlations, batch: PatchBatch, view: Tensor, workspace: Workspace
) -> tuple[Float[Tensor, "seed sample area query"], Saved]:
    """Return area attention and what ``backward`` needs."""
    upsilon = parameters.position_position
    attention = workspace.take("attention", upsilon, *batch.latents.shape, batch.layout.patches)
    kernels.forward(*_arguments(parameters, batch, view, workspace), attention.numpy(), None, None, None)
    return attention, Saved(parameters, batch, view, workspace)


def mean_pooled(
    parameters: Correlations, batch: PatchBatch, view: Tensor, workspace: Workspace
) -> tuple[Float[Tensor, "seed sample area"], Saved]:
    """Return the mean of area attention over queries, never stored, and what ``backward`` needs."""
    upsilon, (_, samples, areas) = parameters.position_position, batch.latents.shape
    means = workspace.take("means", upsilon, *batch.latents.shape)
    folded = lanes(upsilon.numpy().dtype) // FOLDED
    # the sums of all blocks so far, and the block's own, which may be made twice (``loses_digits``)
    sums, block_sums = workspace.take("sums", upsilon, 2, samples * areas, folded).numpy()
    kernels.forward(*_arguments(parameters, batch, view, workspace), None, means.numpy(), sums, block_sums)
    return means, Saved(parameters, batch, view, workspace)


def backward(saved: Saved, cotangent: Float[Tensor, "seed sample area #query"]) -> Correlations:
    """Return ∂L/∂(Φ, Υ) where ∂L/∂A = ``cotangent`` (a query axis of 1 stands for all queries)."""
    parameters, work = saved.parameters, saved.workspace
    gradient = _empty(parameters, work)
    kernels.gradient(
        *_arguments(parameters, saved.batch, saved.view, work),
        _array(cotangent.to(parameters.position_position.dtype)),
        None,
        *(part.numpy() for part in gradient.named().values()),
    )
    return gradient


def residual_gradient(
    parameters: Correlations,
    batch: PatchBatch,
    view: Tensor,
    scale: float | Float[Tensor, " seed"],
    workspace: Workspace,
) -> Correlations:
    """Return ∂L/∂(Φ, Υ) where ∂L/∂A_{p→j} = scale z_j² (A_{p→j} − 1{j = a(p)}) at masked queries p, else 0."""
    gradient = _empty(parameters, workspace)
    d_phi, d_upsilon = (part.numpy() for part in gradient.named().values())
    scales = np.full(len(d_upsilon), scale, d_upsilon.dtype)
    kernels.gradient(*_arguments(parameters, batch, view, workspace), None, scales, d_phi, d_upsilon)
    return gradient


def _empty(parameters: Correlations, work: Workspace) -> Correlations:
    return Correlations(*(work.take(f"gradient of {k}", v, *v.shape) for k, v in parameters.named().items()))


def _arguments(
    parameters: Correlations, batch: PatchBatch, view: Tensor, work: Workspace
) -> tuple[np.ndarray | int, ...]:
    """Return the arguments with which each kernel begins: the problem in its types, the layout's plan, and scratch."""
    phi, upsilon, latents, layout = (
        parameters.feature_position,
        parameters.position_position,
        batch.latents,
        batch.layout,
    )
    # types are compared first: torch's conversions cost microseconds even where there is nothing to convert
    if latents.dtype != upsilon.dtype:
        latents = latents.to(upsilon.dtype)
    if view.dtype != torch.bool and view.dtype != torch.uint8:
        view = view != 0
    samples = latents.shape[1]
    room = work.cached(
        ("scratch", samples, upsilon.dtype), layout, lambda: allocate(upsilon, samples, layout)
    )
    cluster = batch.cluster if batch.cluster.dtype == torch.int64 else batch.cluster.long()
    given = (_array(phi), _array(upsilon), _array(latents), _array(cluster), _array(view).view(np.uint8))
    return *given, *room


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.numpy() if tensor.is_contiguous() else tensor.contiguous().numpy()
