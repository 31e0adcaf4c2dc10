"""The backend of CUDA: fused kernels in Triton, E in blocks, area sums in registers, masks as bits.

The kernels are in ``forward``, ``backward``, ``residual`` and ``pack``, with what each moves and computes.
float32 alone, and up to ``MOST_AREAS`` areas: ``supports`` says so, and plain torch does the rest. A relative error of
1e-6 or so: E and the gradient of the keys are cut into three bfloat16 parts for the tensor cores, and exponents are
always shifted.

Under Triton's interpreter (the environment variable TRITON_INTERPRET=1, set before Triton is loaded) the same
kernels run on CPU tensors, thousands of times slower: for tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from vitdyn._cuda import on_device_of
from vitdyn.data import PatchBatch, PatchLayout
from vitdyn.kernels.cuda.backward import attention_backward
from vitdyn.kernels.cuda.forward import write_attention
from vitdyn.kernels.cuda.pack import pack_words
from vitdyn.kernels.cuda.residual import residual_step
from vitdyn.kernels.cuda.tables import (
    MOST_AREAS,
    SampleTiles,
    Slots,
    block_sizes,
    one_cluster_tiles,
    sample_tiles,
    slots,
)
from vitdyn.kernels.parameters import Correlations
from vitdyn.kernels.workspace import Workspace

INTERPRETED = isinstance(write_attention, InterpretedFunction)
"""Whether the kernels run under Triton's interpreter, on CPU tensors."""

SPLIT = True
"""Whether products run as three bfloat16 products on tensor cores, or else as one of float32 numbers without."""

# eight warps of 255 registers a thread take all that an SM has, and area sums a quarter of these
WARPS, STAGES = 8, 2


@dataclass(frozen=True)
class Problem:
    """One batch as the kernels take it: contiguous float32 arrays, words of visible keys, and the tables."""

    layout: PatchLayout
    phi: Float[Tensor, "seed query cluster area"]
    upsilon: Float[Tensor, "seed query key"]
    latents: Float[Tensor, "seed sample area"]
    words: Int[Tensor, "seed tile sample"]
    tiles: SampleTiles
    slots: Slots

    @property
    def counts(self) -> tuple[int, int, int, int, int]:
        """Samples, patches, clusters, and the most tiles of samples and of keys."""
        samples = self.latents.shape[1]
        sizes = self.layout.patches, self.layout.clusters, self.tiles.table.shape[1], self.slots.tiles
        return (samples, *sizes)

    @property
    def blocks(self) -> tuple[int, int]:
        """Queries and samples of a block."""
        return block_sizes(self.layout, self.latents.shape[1])

    @property
    def programs(self) -> tuple[int, int]:
        """Blocks of queries, seeds."""
        return -(-self.layout.patches // self.blocks[0]), len(self.phi)

    @property
    def options(self) -> dict[str, Any]:
        """What the kernels are compiled for."""
        queries, samples = self.blocks
        return {
            "N": self.layout.areas,
            "NATIVE": not INTERPRETED,
            "SPLIT": SPLIT,
            "BQ": queries,
            "BB": samples,
            "num_warps": WARPS,
            "num_stages": STAGES,
        }


@dataclass(frozen=True)
class Saved:
    """What the forward leaves for one ``backward``: attention, the shift c and 1/Z, and the problem."""

    problem: Problem
    attention: Float[Tensor, "seed sample area query"]
    shift: Float[Tensor, "seed sample query"]
    inverse: Float[Tensor, "seed sample query"]
    workspace: Workspace


def name() -> str:
    """Name what computes."""
    return "fused kernels (Triton)"


def supports(layout: PatchLayout, dtype: torch.dtype) -> bool:
    """Return whether the kernels take this layout and dtype."""
    return dtype == torch.float32 and layout.areas <= MOST_AREAS


def forward(
    parameters: Correlations, batch: PatchBatch, view: Tensor, workspace: Workspace
) -> tuple[Float[Tensor, "seed sample area query"], Saved]:
    """Return area attention and what ``backward`` needs; both hold until the workspace's next forward."""
    problem, patches = _problem(parameters, batch, view, workspace), batch.layout.patches
    rest = (*batch.cluster.shape, patches)
    attention = workspace.take("attention", problem.phi, *problem.latents.shape, patches)
    shift, inverse = (workspace.take(name, problem.phi, *rest) for name in ("shift", "inverse"))
    with on_device_of(attention):
        write_attention[(*problem.programs, problem.tiles.table.shape[1])](
            *_inputs(problem), attention, shift, inverse, *problem.counts, **problem.options
        )
    return attention, Saved(problem, attention, shift, inverse, workspace)


def mean_pooled(
    parameters: Correlations, batch: PatchBatch, view: Tensor, workspace: Workspace
) -> tuple[Float[Tensor, "seed sample area"], Saved]:
    """Return the mean of area attention over queries, by way of attention in memory, and what ``backward`` needs."""
    attention, saved = forward(parameters, batch, view, workspace)
    return attention.mean(-1), saved


def backward(saved: Saved, cotangent: Float[Tensor, "seed sample area #query"]) -> Correlations:
    """Return ∂L/∂(Φ, Υ) where ∂L/∂A = ``cotangent`` (a query axis of 1 stands for all queries)."""
    problem = saved.problem
    # a stride of 0 is what autograd gives back from a mean over queries: one number, as if repeated
    one = cotangent.shape[-1] == 1 or cotangent.stride(-1) == 0
    value = (cotangent[..., :1] if one else cotangent).float().contiguous()
    gradient = empty_gradient(problem, saved.workspace)
    with on_device_of(value):
        attention_backward[problem.programs](
            *_inputs(problem), saved.attention, saved.shift, saved.inverse, value,
            gradient.feature_position, gradient.position_position, *problem.counts,
            ONE=one, **problem.options,
        )  # fmt: skip
    return gradient


def residual_gradient(
    parameters: Correlations,
    batch: PatchBatch,
    view: Tensor,
    scale: float | Float[Tensor, " seed"],
    workspace: Workspace,
) -> Correlations:
    """Return ∂L/∂(Φ, Υ) where ∂L/∂A_{p→j} = scale z_j² (A_{p→j} − 1{j = a(p)}) at masked queries p, else 0."""
    problem = _problem(parameters, batch, view, workspace)
    gradient = empty_gradient(problem, workspace)
    # Mixtures that train together have a scale for each seed.
    if isinstance(scale, float):
        launch_residual(problem, scale, gradient)
        return gradient
    # the kernel takes one number, and the gradient is linear in it
    launch_residual(problem, 1.0, gradient)
    return gradient.map(lambda block: block.mul_(scale.view(-1, *[1] * (block.ndim - 1))))


def launch_residual(
    problem: Problem,
    scale: float,
    gradient: Correlations,
    optimizer: tuple[Float[Tensor, " seed"], Int[Tensor, " seed"], Int[Tensor, ""]] | None = None,
) -> None:
    """Run the fused kernel; with ``optimizer`` = (η of each seed, first bad step of each, step) also Q ← Q − η ∂L/∂Q.

    That is in place; ``gradient`` is then scratch, and a seed whose correlations stop being finite gets the number of
    steps then done as its first bad step, if that is −1 yet.
    """
    # without an optimizer any pointers do: the kernel compiled for that reads none of them
    rates, first_bad, step = optimizer or (problem.phi, problem.tiles.count, problem.tiles.count)
    tables = problem.slots
    with on_device_of(problem.phi):
        residual_step[problem.programs](
            problem.phi, problem.upsilon, problem.latents, problem.words,
            *_tables(problem), tables.slot, tables.area,
            gradient.feature_position, gradient.position_position, rates, first_bad, step,
            scale, *problem.counts, UPDATE=optimizer is not None, **problem.options,
        )  # fmt: skip


def pack(
    visible: Tensor,
    cluster: Int[Tensor, "seed sample"],
    layout: PatchLayout,
    out: Int[Tensor, "seed tile sample"],
) -> Int[Tensor, "seed tile sample"]:
    """Write which keys each sample shows as words in the order of its cluster's slots."""
    seeds, samples = cluster.shape
    tables = slots(layout, cluster.device)
    rows = 16
    shown = visible.contiguous()
    with on_device_of(out):
        pack_words[(-(-samples // rows), seeds)](
            shown.view(torch.uint8) if shown.dtype == torch.bool else (shown != 0).view(torch.uint8),
            cluster.contiguous(), tables.position, out, samples, layout.patches, tables.tiles, BR=rows,
        )  # fmt: skip
    return out


def tile_samples(
    cluster: Int[Tensor, "seed sample"], layout: PatchLayout, *, ordered: bool = False
) -> SampleTiles:
    """Cut the samples of a batch into tiles of one cluster each; ``ordered`` says that clusters come sorted."""
    size = block_sizes(layout, cluster.shape[1])[1]
    if layout.clusters == 1:
        return one_cluster_tiles(*cluster.shape, size, cluster.device)
    return sample_tiles(cluster, layout.clusters, size, ordered=ordered)


def empty_gradient(problem: Problem, workspace: Workspace) -> Correlations:
    """Return arrays for ∂L/∂(Φ, Υ), the same ones for every problem of a workspace."""
    blocks = {"phi gradient": problem.phi, "gradient": problem.upsilon}
    return Correlations(*(workspace.take(name, block, *block.shape) for name, block in blocks.items()))


def _problem(parameters: Correlations, batch: PatchBatch, view: Tensor, workspace: Workspace) -> Problem:
    layout, cluster = batch.layout, batch.cluster
    phi, upsilon = parameters.feature_position, parameters.position_position
    tables = slots(layout, phi.device)
    int32 = tables.position.new_empty(0)
    words = workspace.take("words", int32, len(phi), tables.tiles, cluster.shape[1])
    return Problem(
        layout,
        phi.contiguous(),
        upsilon.contiguous(),
        batch.latents.to(phi.dtype).contiguous(),
        pack(view, cluster, layout, words),
        tile_samples(cluster, layout),
        tables,
    )


def _tables(problem: Problem) -> tuple[Tensor, ...]:
    tiles, tables = problem.tiles, problem.slots
    return tiles.order, tiles.table, tiles.count, tables.position, tables.edges


def _inputs(problem: Problem) -> tuple[Tensor, ...]:
    return problem.phi, problem.upsilon, problem.latents, problem.words, *_tables(problem)
