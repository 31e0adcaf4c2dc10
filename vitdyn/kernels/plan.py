"""The one decision: which path and which backend evaluate a gradient, whose bits it gives, and what it keeps in memory.

Training, grids, memory, capture and records ask ``plan_for``; the table of all its answers is in ``README.md`` beside.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import import_module
from typing import cast

import torch

from vitdyn.data import PatchLayout
from vitdyn.kernels import torch_backend
from vitdyn.kernels.autograd_path import forms_maps
from vitdyn.kernels.backend import Backend
from vitdyn.kernels.self_check import mistakes_of

_MODULES = {"cpu": "vitdyn.kernels.cpu.backend", "cuda": "vitdyn.kernels.cuda.backend"}

GRAPH = 8
"""Arrays (sample, area, query) that autograd keeps of one view with content queries."""

MAPS = 3
"""Arrays (sample, query, key) that content queries take at once where they form maps; a second view takes one more."""

SIMILARITIES = 3
"""Arrays (sample, sample) that a loss of pooled outputs takes."""


class Path(StrEnum):
    """How ∂L/∂Q is reached."""

    RESIDUAL = "fused residual"
    """Forward, ∂L/∂A and backward at once, block by block of queries."""
    MEAN_POOLED = "fused mean-pooled"
    """Forward to means over queries, then backward, which makes attention again; a residual may be added."""
    FACTORED = "factored"
    """Attention in memory, ∂L/∂A by closed form or autograd, then the closed-form backward."""
    AUTOGRAD = "autograd"
    """All of it differentiated by autograd: content queries."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What evaluates one kind of gradient, and what follows from that."""

    path: Path
    backend: Backend
    device: str
    layout: PatchLayout
    content_queries: bool

    @property
    def is_fused(self) -> bool:
        """Whether no area attention lies in memory."""
        return self.path in (Path.RESIDUAL, Path.MEAN_POOLED)

    @property
    def is_seed_independent(self) -> bool:
        """Whether a seed's bits do not depend on how many seeds are computed beside it.

        Compiled kernels take one seed after the other; sums and products of torch are cut by the size of the whole.
        After the kernels of CUDA, all but the fused residual go on in torch.
        """
        kind = _kind(self.backend)
        return not self.content_queries and (kind == "cpu" or (kind == "cuda" and self.path is Path.RESIDUAL))

    @property
    def name(self) -> str:
        """What computes, in words: two machines that say the same and have the same processor give the same bits."""
        words = torch_backend.name() if self.content_queries else self.backend.name()
        return _with_torch(words, self.device)

    def stored_numbers(self, samples: int, evaluation_samples: int, views: int) -> int:
        """Return how many numbers a seed keeps of attention, or of what takes its place, while it trains."""
        patches = self.layout.patches
        trained, evaluated = (count * self.layout.areas * patches for count in (samples, evaluation_samples))
        if self.content_queries:  # whatever the gradient takes, records form maps
            largest = max(samples, evaluation_samples)
            if forms_maps(self.layout, largest):
                return (MAPS + views - 1) * largest * patches**2
            return GRAPH * (views * (trained + evaluated) + patches**2)
        if self.path is Path.RESIDUAL:
            return 0
        return SIMILARITIES * samples**2 if self.path is Path.MEAN_POOLED else views * trained


def plan_for(
    layout: PatchLayout,
    device: str,
    dtype: torch.dtype,
    *,
    content_queries: bool = False,
    residual: bool = False,
    mean_pooled: bool = False,
) -> Plan:
    """Return how a gradient is evaluated on a kind of ``device``.

    ``residual`` and ``mean_pooled`` say which terms the closed form of ∂L/∂A has; with neither, autograd gives ∂L/∂A.
    """
    backend = backend_for(layout, device, dtype)
    path = Path.AUTOGRAD if content_queries else Path.FACTORED
    # elsewhere the means are taken of attention in memory, which is then the factored path
    if mean_pooled:
        if not content_queries and _kind(backend) == "cpu":
            path = Path.MEAN_POOLED
    elif residual:
        # with content queries too: masked queries, the only ones that count, carry no content
        path = Path.RESIDUAL
    return Plan(path=path, backend=backend, device=device, layout=layout, content_queries=content_queries)


def backend_for(layout: PatchLayout, device: str, dtype: torch.dtype) -> Backend:
    """Return the backend for a layout and type on a kind of device: its kernels where they take these, else torch."""
    backend = _backend(device)
    return backend if backend.supports(layout, dtype) else _TORCH


def capturable_backend(layout: PatchLayout, device: torch.device, dtype: torch.dtype) -> Backend | None:
    """Return the backend whose fused residual a CUDA graph can capture, None where there is none.

    Under Triton's interpreter that is on CPU, for tests.
    """
    try:
        kernels = import_module(_MODULES["cuda"])
    except ImportError:
        return None
    runs = device.type == "cpu" if kernels.INTERPRETED else device.type == "cuda" == _kind(_backend("cuda"))
    return cast(Backend, kernels) if runs and kernels.supports(layout, dtype) else None


def backend_name(device: str) -> str:
    """Return in words what computes attention on a kind of device, where it takes the layout and type."""
    return _with_torch(_backend(device).name(), device)


_TORCH = cast(Backend, torch_backend)


def _with_torch(words: str, device: str) -> str:
    """Add torch's own instructions on CPU: records and losses run by them."""
    return f"{words}, torch {torch.backends.cpu.get_cpu_capability()}" if device == "cpu" else words


def _kind(backend: Backend) -> str:
    """Return the kind of device whose kernels a backend is, "" for plain torch."""
    # by its module's name, so that no backend has to be loaded to be compared with
    names = {name: kind for kind, name in _MODULES.items()}
    return names.get(getattr(backend, "__name__", ""), "")


@cache
def _backend(device: str) -> Backend:
    """Return the kernels of a device, or torch, with a warning, where these lack a compiler or fail their check."""
    if device not in _MODULES:
        return _TORCH
    try:
        backend = cast(Backend, import_module(_MODULES[device]))
    except (ImportError, RuntimeError) as error:
        # no compiler for this Python or machine, or no folder for its cache: the package's, HOME's or a temporary one
        reason = " ".join(str(error).split())
        _warn_of_torch(
            f"no compiled kernels for {device} ({reason}). If a folder for compiled code is missing, name one in "
            "NUMBA_CACHE_DIR"
        )
        return _TORCH
    # the CPU's kernels are tested wherever vitdyn is; a GPU may be one that they have never met
    if device == "cuda" and torch.cuda.is_available() and (mistakes := mistakes_of(backend, "cuda")):
        _warn_of_torch(f"the fused kernels fail their check on this GPU ({mistakes})")
        return _TORCH
    return backend


def _warn_of_torch(reason: str) -> None:
    words = f"plain torch computes attention, two to four times slower and with other last bits: {reason}"
    warnings.warn(words, RuntimeWarning, stacklevel=4)
