"""Steps of masked reconstruction without a host in the loop: draw, gradient, update and finite check as one graph.

One step is a few kernels that read the step's number from the device: latents and masks from the counter stream,
the fused gradient (``cuda.residual``) with the update of gradient descent inside, and the number's increment. On CUDA
they are captured into a CUDA graph after the first step and replayed; the host waits for nothing until it asks for a
frame. The same steps run eagerly on CPU, under Triton's interpreter or by plain torch, to the same draws.

A step at S seeds, B samples, P patches, N areas moves the bytes of ``residual`` and of ``counter_kernels``,
and 12 N B S for latents: at 1024 seeds, P = B = 256, N = 4 together 0.87 GB, 0.18 ms at
4.8 TB/s; the products take 0.23 ms at 900 TFLOP/s, the masks about 0.3 ms: a projection of 0.7 to 1.1 ms a step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._cuda import on_device_of
from vitdyn.data import PatchBatch
from vitdyn.dynamics.device_batches import DeviceBatches
from vitdyn.dynamics.divergence import noted_bad_values
from vitdyn.dynamics.gradient import Workspaces, loss_gradient
from vitdyn.dynamics.group import Group
from vitdyn.dynamics.optimizers import Adam, GradientDescent
from vitdyn.kernels import Parameters
from vitdyn.kernels.plan import capturable_backend
from vitdyn.objectives import Residual, hyperparameter
from vitdyn.objectives.contract import closed_form_of


@dataclass
class CudaGraphStepper:
    """The steps of a group of seeds, which change its ``correlations`` and ``first_bad`` in place.

    Objective and optimizer may be stacked ones: the fused kernels give each seed the bits that it has alone, whatever
    the learning rates and mask ratios of its neighbours. With ``fused`` None they are taken where they run.
    """

    group: Group
    batches: DeviceBatches
    fused: bool | None = None
    _graph: Any = None
    _counter: Tensor = field(init=False)
    _latents: Tensor | None = field(init=False, default=None)
    _workspaces: Workspaces = field(init=False, default_factory=Workspaces)

    def __post_init__(self) -> None:
        source = self.batches
        self._counter = torch.tensor(self.group.step, device=source.device)
        kind = source.generator.layout, source.device, source.dtype
        self._kernels: Any = capturable_backend(*kind) if self.fused is None or self.fused else None
        if not source.draws_latents:
            shape = len(source.seeds), source.samples, source.generator.layout.areas
            self._latents = torch.empty(shape, device=source.device)

    def advance(self, steps: int) -> None:
        """Do ``steps`` steps. On CUDA they are only under way when this returns."""
        with on_device_of(self._counter):
            for _ in range(steps):
                # a graph cannot call the host: what it draws is copied to where the graph reads
                if self._latents is not None:
                    self._latents.copy_(self.batches.host_latents(self.group.step))
                if self._graph is not None:
                    self._graph.replay()
                else:
                    self._one_step()
                    self._capture()
                self.group.step += 1

    def _capture(self) -> None:
        """Record the next steps: the first one compiled every kernel and made every array that lasts."""
        # Adam's bias corrections are numbers that the host computes from the step: a graph would repeat the first ones
        by_host = self._kernels is None or isinstance(self.group.rows.optimizer, Adam)
        if self._counter.is_cuda and not by_host:  # pragma: no cover  (needs a GPU)
            torch.cuda.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            # other threads of the process may call CUDA meanwhile, which the default mode would take for an error
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._one_step()

    def _one_step(self) -> None:
        batch = self.batches.batch(self._counter, self._latents)
        if self._kernels is None:
            self._plain_step(batch)
        else:
            self._fused_step(batch)
        self._counter.add_(1)  # on the device, so that a replayed graph draws the next step

    def _plain_step(self, batch: PatchBatch) -> None:
        """Take a step by plain torch: the oracle and the fallback."""
        batches, views = self.batches, self.batches.views(self._counter)
        given = self.group.correlations, batches.objective, batch, views
        self._follow(loss_gradient(*given, {}, self._workspaces)[0])

    def _fused_step(self, batch: PatchBatch) -> None:
        layout, work, kernels = batch.layout, self._workspaces.view(0), self._kernels
        tables = kernels.slots(layout, batch.cluster.device)
        problem = kernels.Problem(
            layout,
            *self.group.correlations.named().values(),
            batch.latents,
            self.batches.words(self._counter, batch.cluster, tables.position),
            kernels.tile_samples(batch.cluster, layout, ordered=True),
            tables,
        )
        gradient = kernels.empty_gradient(problem, work)
        (residual,) = closed_form_of(self.batches.objective, batch)
        assert isinstance(residual, Residual)
        scale = residual.scale
        assert isinstance(scale, float)
        # gradient descent moves Q inside the kernel, which saves writing and reading a gradient of the size of Q
        if isinstance(self.group.rows.optimizer, GradientDescent):
            update = (self._rates, self.group.first_bad, self._counter)
            kernels.launch_residual(problem, scale, gradient, update)
        else:
            kernels.launch_residual(problem, scale, gradient)
            self._follow(gradient)

    @cached_property
    def _rates(self) -> Float[Tensor, " seed"]:
        ones = torch.ones(len(self.batches.seeds), device=self.batches.device)
        return ones * hyperparameter(self.group.rows.optimizer, lambda one: one.learning_rate, ones)

    def _follow(self, gradient: Parameters) -> None:
        """Let the optimizer take a step, and note in place who is not finite after it."""
        group = self.group
        group.rows.optimizer.step(group.correlations, gradient, group.optimizer, group.step)
        group.first_bad.copy_(noted_bad_values(group.correlations, group.first_bad, self._counter + 1))
