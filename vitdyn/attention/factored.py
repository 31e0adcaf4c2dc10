"""The factored forward of area attention and its closed-form pull-back (queries by position).

Within an area the content part of a logit is one number for each query and sample, so with
E_{pq} = exp(Υ_{pq} − max_r Υ_{pr}), shared by all samples, u_{bq} = 1 where patch q is visible, and
c_bp = max(0 where a patch is masked, z_bj Φ_pj over the areas j that sample b shows), which keeps every
exponent from overflow and Z from vanishing,

    W_{bjp} = Σ_{q in area j} u_{bq} E_{pq},      W_{b0p} = Σ_q (1 − u_{bq}) E_{pq}
    Z_bp = e^{−c_bp} W_{b0p} + Σ_j e^{z_bj Φ_pj − c_bp} W_{bjp}
    R_{bjp} = e^{z_bj Φ_pj − c_bp} / Z_bp,   R_{b0p} = e^{−c_bp} / Z_bp,   A_{bjp} = R_{bjp} W_{bjp}

and for a loss with G = ∂L/∂A, Ḡ_bp = Σ_j A_bjp G_bjp:

    ∂L/∂Φ_pj  = Σ_b z_bj A_bjp (G_bjp − Ḡ_bp)
    ∂L/∂Υ_pq  = E_pq Σ_b [ u_bq R_{b a(q) p} (G_{b a(q) p} − Ḡ_bp) − (1 − u_bq) R_b0p Ḡ_bp ]

An engine is a module that does this, with ``supports``, ``forward``, ``pullback`` and ``residual_gradient``:
``rows`` (CPU), ``flash`` (CUDA) or ``products`` (torch, anywhere). One that never needs attention in memory also has
``pooled``, its mean over queries.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn.attention import products
from vitdyn.attention.correlations import Correlations
from vitdyn.attention.workspace import Workspace
from vitdyn.data import PatchLayout


@dataclass(frozen=True)
class Saved:
    """What a forward leaves for one pull-back: the engine that ran it, and that engine's own record."""

    engine: ModuleType
    parts: Any


def factored_forward(
    correlations: Correlations,
    latents: Float[Tensor, "seed sample area"],
    cluster: Int[Tensor, "seed sample"],
    visible: Tensor,
    layout: PatchLayout,
    workspace: Workspace | None = None,
) -> tuple[Float[Tensor, "seed sample area query"], Saved]:
    """Return area attention and what ``factored_pullback`` needs. Records no autograd graph."""
    engine = _engine_of(correlations, layout)
    attention, parts = engine.forward(
        _detached(correlations), _plain(latents), cluster, visible, layout, workspace or Workspace()
    )
    return attention, Saved(engine, parts)


def pooled_forward(
    correlations: Correlations,
    latents: Float[Tensor, "seed sample area"],
    cluster: Int[Tensor, "seed sample"],
    visible: Tensor,
    layout: PatchLayout,
    workspace: Workspace | None = None,
) -> tuple[Float[Tensor, "seed sample area"], Saved]:
    """Return Ā_{bj} = (1/P) Σ_p A_{bjp} and what ``factored_pullback`` needs, of an engine that ``pools``."""
    engine = _engine_of(correlations, layout)
    means, parts = engine.pooled(
        _detached(correlations), _plain(latents), cluster, visible, layout, workspace or Workspace()
    )
    return means, Saved(engine, parts)


def factored_pullback(
    saved: Saved,
    adjoint: Float[Tensor, "seed sample area #query"],
    weight: Float[Tensor, "seed sample query"] | None = None,
) -> Correlations:
    """Return ∂L/∂(Φ, Υ) where ∂L/∂A = ``weight`` · ``adjoint`` (a query axis of 1 stands for all queries).

    The result lies in the forward's workspace, and what the forward saved is used up. Attention and Υ must
    not have been written to since the forward.
    """
    return saved.engine.pullback(saved.parts, adjoint, weight)


def residual_gradient(
    correlations: Correlations,
    latents: Float[Tensor, "seed sample area"],
    cluster: Int[Tensor, "seed sample"],
    visible: Tensor,
    layout: PatchLayout,
    scale: float | Float[Tensor, " seed"],
    workspace: Workspace | None = None,
) -> Correlations:
    """Return ∂L/∂(Φ, Υ) of masked reconstruction, at once and without attention in between.

    It is the pull-back of G_{bjp} = scale z_bj² (A_bjp − 1{j = a(p)}) at masked queries p, 0 at visible ones.
    The result lies in the workspace.
    """
    engine, work = _engine_of(correlations, layout), workspace or Workspace()
    return engine.residual_gradient(
        _detached(correlations), _plain(latents), cluster, visible, layout, scale, work
    )


def _detached(correlations: Correlations) -> Correlations:
    """Return the blocks of queries by position, without a graph."""
    parts = correlations.feature_position, correlations.position_position
    if correlations.content_queries or any(part.requires_grad for part in parts):
        return Correlations(*(_plain(part) for part in parts))
    return correlations


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach() if tensor.requires_grad else tensor


def seeds_apart(layout: PatchLayout, device: str, dtype: torch.dtype) -> bool:
    """Say whether a seed's bits depend on that seed alone: compiled kernels take one by one, products all at once."""
    return _engine_for(layout, device, dtype) is not products


def pools(layout: PatchLayout, device: str, dtype: torch.dtype) -> bool:
    """Say whether the engine takes means of attention over queries without storing it (``pooled_forward``)."""
    return hasattr(_engine_for(layout, device, dtype), "pooled")


def _engine_of(correlations: Correlations, layout: PatchLayout) -> ModuleType:
    block = correlations.position_position
    return _engine_for(layout, block.device.type, block.dtype)


def _engine_for(layout: PatchLayout, device: str, dtype: torch.dtype) -> ModuleType:
    engine = _engine(device)
    return engine if engine.supports(layout, dtype) else products


@cache
def _engine(device: str) -> ModuleType:
    """Return the compiled engine of a device where its compiler is at hand, else ``products``, which is said."""
    name = {"cpu": "rows", "cuda": "flash"}.get(device, "products")
    try:
        return import_module(f"vitdyn.attention.{name}")
    except (ImportError, RuntimeError) as error:
        # no compiler for this Python or machine, or no folder for its cache: numba tries the package's and HOME's
        reason = " ".join(str(error).split())
        warnings.warn(
            f"plain torch computes attention, two to four times slower and with other last bits: no compiled engine "
            f"for {device} ({reason}). If a folder for compiled code is missing, name one in NUMBA_CACHE_DIR",
            RuntimeWarning,
            stacklevel=2,
        )
        return products


def engine_name(
    device: str,
    layout: PatchLayout | None = None,
    dtype: torch.dtype = torch.float32,
    *,
    content_queries: bool = False,
) -> str:
    """Return in words what computes attention on a kind of device, for a layout, dtype and queries if these are given.

    Two machines that give the same words and have the same processor, or GPU, give the same bits.
    """
    engine = _engine(device) if layout is None else _engine_for(layout, device, dtype)
    if engine is products or content_queries:
        kind = "plain torch"
    elif device == "cpu":
        kind = f"compiled kernels ({_instructions()})"
    else:
        kind = "fused kernels (Triton)"
    return f"{kind}, torch {torch.backends.cpu.get_cpu_capability()}" if device == "cpu" else kind


def _instructions() -> str:
    """Name the widest vectors that the kernels of the CPU are compiled for."""
    from vitdyn.attention.rows_vector import machine_has

    widths = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "neon": "NEON"}
    return next((name for feature, name in widths.items() if machine_has(feature)), "no vectors")
