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
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn._cuda import on_device_of
from vitdyn.data import PatchBatch, PatchGenerator
from vitdyn.dynamics.device_batches import DeviceBatches
from vitdyn.dynamics.divergence import noted_bad_values
from vitdyn.dynamics.gradient import Workspaces, loss_gradient
from vitdyn.dynamics.optimizers import Adam, GradientDescent, Optimizer
from vitdyn.dynamics.training import Training
from vitdyn.kernels import Correlations
from vitdyn.kernels.plan import capturable_backend
from vitdyn.objectives import Residual, hyperparameter
from vitdyn.objectives.contract import (
    closed_form_kinds,
    closed_form_of,
    draws_views_jointly,
    has_decay,
    has_state,
)
from vitdyn.objectives.stacked import stack_key


@dataclass
class CudaGraphStepper:
    """The steps of a group of seeds, which change ``correlations`` and ``first_bad`` in place.

    Objective and optimizer may be stacked ones: the fused kernels give each seed the bits that it has alone, whatever
    the learning rates and mask ratios of its neighbours. ``state`` is the optimizer's. ``first_bad`` (seed, int64) is
    −1 until a seed's correlations stop being finite; then it is the number of steps done. With ``fused`` None the fused
    kernels are taken where they run.
    """

    batches: DeviceBatches
    optimizer: Optimizer
    correlations: Correlations
    state: dict[str, Correlations]
    first_bad: Int[Tensor, " seed"]
    step: int = 0
    fused: bool | None = None
    _graph: Any = None
    _counter: Tensor = field(init=False)
    _latents: Tensor | None = field(init=False, default=None)
    _workspaces: Workspaces = field(init=False, default_factory=Workspaces)

    def __post_init__(self) -> None:
        self._counter = torch.tensor(self.step, device=self.batches.device)
        source = self.batches
        kind = source.generator.layout, source.device, source.dtype
        self._kernels: Any = capturable_backend(*kind) if self.fused is None or self.fused else None
        if not self.batches.draws_latents:
            self._latents = torch.empty(
                len(self.batches.seeds),
                self.batches.samples,
                self.batches.generator.layout.areas,
                device=self.batches.device,
            )

    def advance(self, steps: int) -> None:
        """Do ``steps`` steps. On CUDA they are only under way when this returns."""
        with on_device_of(self._counter):
            for _ in range(steps):
                # a graph cannot call the host: what it draws is copied to where the graph reads
                if self._latents is not None:
                    self._latents.copy_(self.batches.host_latents(self.step))
                if self._graph is not None:
                    self._graph.replay()
                else:
                    self._one_step()
                    self._capture()
                self.step += 1

    @property
    def _capturable(self) -> bool:
        # Adam's bias corrections are numbers that the host computes from the step: a graph would repeat the first ones
        return self._kernels is not None and self._counter.is_cuda and not isinstance(self.optimizer, Adam)

    def _capture(self) -> None:
        """Record the next steps: the first one compiled every kernel and made every array that lasts."""
        if self._capturable:  # pragma: no cover  (needs a GPU)
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
        views = self.batches.views(self._counter)
        gradient, _ = loss_gradient(
            self.correlations, self.batches.objective, batch, views, {}, self._workspaces
        )
        self.optimizer.step(self.correlations, gradient, self.state, self.step)
        self._note_bad_values()

    def _fused_step(self, batch: PatchBatch) -> None:
        layout, work, kernels = batch.layout, self._workspaces.view(0), self._kernels
        tables = kernels.slots(layout, batch.cluster.device)
        problem = kernels.Problem(
            layout,
            *self.correlations.named().values(),
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
        if isinstance(self.optimizer, GradientDescent):
            optimizer = (self._rates, self.first_bad, self._counter)
            kernels.launch_residual(problem, scale, gradient, optimizer)
        else:
            kernels.launch_residual(problem, scale, gradient)
            self.optimizer.step(self.correlations, gradient, self.state, self.step)
            self._note_bad_values()

    @cached_property
    def _rates(self) -> Float[Tensor, " seed"]:
        ones = torch.ones(len(self.first_bad), device=self.first_bad.device)
        return ones * hyperparameter(self.optimizer, lambda one: one.learning_rate, ones)

    def _note_bad_values(self) -> None:
        self.first_bad.copy_(noted_bad_values(self.correlations, self.first_bad, self._counter + 1))


def takes(training: Training) -> bool:
    """Return whether a cell trains so: a residual alone, fresh samples, queries by position, a listed optimizer."""
    objective, generator = training.objective, training.generator
    if training.content_queries or training.dataset_size is not None:
        return False
    if type(generator).sample is not PatchGenerator.sample or not draws_views_jointly(objective):
        return False
    if stack_key(objective) is None or stack_key(training.resolved_optimizer) is None:
        return False
    bare = not has_decay(objective) and not has_state(objective)
    return bare and closed_form_kinds(objective, generator.layout) == {Residual}
