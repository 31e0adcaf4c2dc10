"""The batches of a run: fresh samples at every step, or minibatches of a fixed data set; views always fresh.

Samples come in the order of their clusters, which changes no law (they are exchangeable) and saves copies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from vitdyn.data import PatchBatch, PatchGenerator
from vitdyn.objectives import Objective
from vitdyn.seeds import stream

Views = tuple[Bool[Tensor, "seed sample patch"], ...]
EVALUATION = "evaluation "


@dataclass(frozen=True)
class BatchSource:
    """Where the batches of a group of seeds come from.

    With ``data_set_size`` None every step draws fresh samples: the surrogate of the population gradient.
    Else each seed draws a data set of that size once, and each step picks ``samples`` of it without
    replacement. The masks are drawn anew at every step in both cases.
    """

    generator: PatchGenerator
    objective: Objective
    seeds: tuple[int, ...]
    samples: int
    data_set_size: int | None
    dtype: torch.dtype
    device: torch.device

    def data_set(self) -> PatchBatch | None:
        """Draw the fixed data set of each seed, or None where samples are fresh."""
        if self.data_set_size is None:
            return None
        return self.generator.sample(
            self.data_set_size,
            self.seeds,
            purpose="data set ",
            by_cluster=True,
            dtype=self.dtype,
            device=self.device,
        )

    def training(self, step: int, data_set: PatchBatch | None) -> tuple[PatchBatch, Views]:
        """Return the batch of a step, with its views."""
        batch = self.fresh(step, self.samples) if data_set is None else self._minibatch(data_set, step)
        return batch, self.views(step, self.samples)

    def evaluation(self, step: int, samples: int) -> tuple[PatchBatch, Views]:
        """Return fresh samples that no training step sees, with their views."""
        return self.fresh(step, samples, EVALUATION), self.views(step, samples, EVALUATION)

    def fresh(self, step: int, samples: int, purpose: str = "") -> PatchBatch:
        """Draw samples: of training, or of another ``purpose``."""
        return self.generator.sample(
            samples,
            self.seeds,
            step=step,
            purpose=purpose,
            by_cluster=True,
            dtype=self.dtype,
            device=self.device,
        )

    def views(self, step: int, samples: int, purpose: str = "") -> Views:
        """Draw the views of as many samples: of training, or of another ``purpose``."""
        patches = self.generator.layout.patches
        drawn = [
            self.objective.draw_views(stream(seed, f"{purpose}masks", step), samples, patches)
            for seed in self.seeds
        ]
        together = np.empty((len(drawn[0]), len(drawn), samples, patches), dtype=bool)
        for row, views in enumerate(drawn):
            for view, shown in enumerate(views):
                together[view, row] = shown
        return tuple(torch.from_numpy(view).to(self.device) for view in together)

    def _minibatch(self, data_set: PatchBatch, step: int) -> PatchBatch:
        """Pick samples of each seed's data set, in its own order."""
        picks = np.empty((len(self.seeds), self.samples), dtype=np.int64)
        for row, seed in enumerate(self.seeds):
            picking = stream(seed, "minibatches", step)
            picks[row] = picking.choice(data_set.count, self.samples, replace=False, shuffle=False)
        picks.sort(axis=1)
        rows = torch.arange(len(self.seeds), device=self.device)[:, None]
        columns = torch.from_numpy(picks).to(self.device)
        return replace(
            data_set, cluster=data_set.cluster[rows, columns], latents=data_set.latents[rows, columns]
        )
