"""A step of a Transformer, all seeds in one batch, beside a module a seed, one seed after another.

``python model_step.py 64 4 2`` prints the MiB that each way takes at P = 64, 4 layers, 2 heads.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from peak_memory import status
from torch import nn

from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import Training, loss_gradient
from vitdyn.dynamics.batches import BatchSource
from vitdyn.dynamics.memory import default_limit, split_cells
from vitdyn.models import Parameters, Transformer
from vitdyn.objectives import MaskedReconstruction
from vitdyn.seeds import Streams

SEEDS, SAMPLES = 8, 16
CPU = torch.device("cpu")


class Module(nn.Module):
    """The same Transformer for one seed, as one writes it first: samples as the leading axis."""

    def __init__(self, phi: torch.Tensor, upsilon: torch.Tensor) -> None:
        super().__init__()
        self.phi, self.upsilon = (
            nn.Parameter(phi),
            nn.Parameter(upsilon),
        )  # (layer, head, query, feature or key)

    def forward(self, content: torch.Tensor) -> torch.Tensor:
        stream = content
        for phi, upsilon in zip(self.phi, self.upsilon, strict=True):
            attention = torch.softmax(phi @ stream[:, None].mT + upsilon, -1)
            moved = (attention @ stream[:, None]).mean(1)
            stream = stream + moved if len(self.phi) > 1 else moved
        return stream


@dataclass(frozen=True)
class Case:
    """P, layers and heads; masked reconstruction of 16 samples, 8 seeds, a residual where there are several layers."""

    patches: int
    layers: int
    heads: int
    seeds: int = SEEDS

    def __post_init__(self) -> None:
        layout = PatchLayout.from_exponents(self.patches, 0.9, 0.4)
        model = Transformer(layers=self.layers, heads=self.heads, residual=self.layers > 1, initial_scale=0.1)
        training = Training(
            generator=PatchGenerator(layout=layout), objective=MaskedReconstruction(), model=model,
            batch_size=SAMPLES, seeds=self.seeds,
        )  # fmt: skip
        seeds, single = training.seed_numbers, torch.float32
        source = BatchSource(training.generator, training.objective, seeds, SAMPLES, None, single, CPU)
        batch, views = source.training(0, None)
        start = model.initial(training.generator, Streams(seeds, "model"), torch.empty(0, dtype=single))
        vars(self).update(training=training, batch=batch, views=views, parameters=start)

    def gradient(self, seeds: slice) -> Parameters:
        """Return vitdyn's gradient of some of the seeds, as one batch."""
        own = lambda tensor: tensor[seeds]  # noqa: E731
        batch, views = self.batch.map(own, seeds=self.batch.seeds[seeds]), tuple(map(own, self.views))
        training = self.training
        given = (training.objective, batch, views, {})
        return loss_gradient(self.parameters.map(own), *given, model=training.model)[0]

    def steps(self) -> dict:
        """Return the ways to take the gradient of all seeds, by name."""
        sizes = [len(group.rows) for group in split_cells((self.training,), CPU, default_limit(CPU))]
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        groups = [slice(start, start + size) for start, size in zip(starts, sizes, strict=True)]
        blocks = zip(self.parameters.feature_position, self.parameters.position_position, strict=True)
        modules, patches = [Module(*each) for each in blocks], self.batch.contents()

        def module(layer: Module, patches: torch.Tensor, visible: torch.Tensor) -> tuple:
            output = layer(patches * visible[..., None])
            loss = 0.5 * ((output - patches).square().sum(-1) * ~visible).sum() / SAMPLES
            return torch.autograd.grad(loss, (layer.phi, layer.upsilon))

        return {
            "module": lambda: [module(*each) for each in zip(modules, patches, self.views[0], strict=True)],
            "batch": lambda: [self.gradient(slice(0, self.seeds))],
            "training": lambda: [self.gradient(group) for group in groups],
        }


if __name__ == "__main__":
    torch.set_num_threads(1)
    for warm in Case(16, 1, 1).steps().values():
        warm()
    for step in Case(*map(int, sys.argv[1:])).steps().values():
        before = status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        step(), step()
        print(status("VmHWM") - before)
