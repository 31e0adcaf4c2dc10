"""The batches of a run: fresh samples at every step, or minibatches of a fixed data set; views always fresh.

Samples come in the order of their clusters, which changes no distribution (they are exchangeable) and saves copies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from vitdyn._errors import invalid_value
from vitdyn.data import PatchBatch, PatchGenerator
from vitdyn.objectives import Objective
from vitdyn.objectives.contract import draws_views_jointly
from vitdyn.seeds import Streams, stream

Views = tuple[Bool[Tensor, "seed sample patch"], ...]
EVALUATION = "evaluation "


@dataclass(frozen=True)
class BatchSource:
    """Where the batches of a group of seeds come from.

    With ``dataset_size`` None every step draws fresh samples: the surrogate of the population gradient.
    Else each seed draws a data set of that size once, and each step picks ``samples`` of it without
    replacement. The masks are drawn anew at every step in both cases.
    """

    generator: PatchGenerator
    objective: Objective
    seeds: tuple[int, ...]
    samples: int
    dataset_size: int | None
    dtype: torch.dtype
    device: torch.device

    def dataset(self) -> PatchBatch | None:
        """Draw the fixed data set of each seed, or None where samples are fresh."""
        if self.dataset_size is None:
            return None
        return self._sampled(self.dataset_size, purpose="data set ")

    def training(self, step: int, dataset: PatchBatch | None) -> tuple[PatchBatch, Views]:
        """Return the batch of a step, with its views."""
        batch = self.fresh(step, self.samples) if dataset is None else self._minibatch(dataset, step)
        return batch, self.views(step, self.samples)

    def evaluation(self, step: int, samples: int) -> tuple[PatchBatch, Views]:
        """Return fresh samples that no training step sees, with their views."""
        return self.fresh(step, samples, EVALUATION), self.views(step, samples, EVALUATION)

    def fresh(self, step: int, samples: int, purpose: str = "") -> PatchBatch:
        """Draw samples: of training, or of another ``purpose``."""
        return self._sampled(samples, step=step, purpose=purpose)

    def _sampled(self, count: int, **stream: Any) -> PatchBatch:
        generator = self.generator
        kind: Any = {"dtype": self.dtype, "device": self.device}
        batch = generator.sample(count, self.seeds, **stream, by_cluster=True, **kind)
        # a generator of the user's own, a subclass or one with a function put into it, is checked at every draw
        if not generator.draws_as_written:
            _require_batch(generator, batch, (self.seeds, count), self.dtype)
        return batch

    def views(self, step: int, samples: int, purpose: str = "") -> Views:
        """Draw the views of as many samples: of training, or of another ``purpose``."""
        patches, streams = self.generator.layout.patches, Streams(self.seeds, f"{purpose}masks", step)
        if draws_views_jointly(self.objective):
            drawn = self.objective.draw_views(streams, samples, patches)
        else:
            each = [self.objective.draw_views(one, samples, patches) for one in streams.each()]
            for views in each:
                _require_views(self.objective, views, (samples, patches))
            drawn = tuple(np.stack(view).astype(bool, copy=False) for view in zip(*each, strict=True))
        return tuple(torch.from_numpy(np.ascontiguousarray(view)).to(self.device) for view in drawn)

    def _minibatch(self, dataset: PatchBatch, step: int) -> PatchBatch:
        """Pick samples of each seed's data set, in its own order."""
        picks = np.empty((len(self.seeds), self.samples), dtype=np.int64)
        for row, seed in enumerate(self.seeds):
            # without shuffling, which a sum over the batch would not notice
            picking = stream(seed, "minibatches", step)
            picks[row] = picking.choice(dataset.count, self.samples, replace=False, shuffle=False)
        picks.sort(axis=1)  # the data set lies in the order of its clusters, and so does each minibatch
        rows = torch.arange(len(self.seeds), device=self.device)[:, None]
        columns = torch.from_numpy(picks).to(self.device)
        return dataset.map(lambda tensor: tensor[rows, columns])


def _require_batch(
    generator: PatchGenerator, batch: Any, drawn: tuple[tuple[int, ...], int], dtype: torch.dtype
) -> None:
    """Raise ``ValueError`` unless a generator of the user's own returned a batch of its layout, as was asked for."""
    field, (seeds, count), layout = f"{type(generator).__name__}.sample", drawn, generator.layout
    if not isinstance(batch, PatchBatch) or batch.layout != layout or batch.seeds != seeds:
        remedy = f"must return a PatchBatch of its layout and the seeds {seeds}"
        raise invalid_value(field, type(batch).__name__, remedy)
    given = len(seeds), count
    wanted = {
        "cluster": (given, torch.int64),
        "latents": ((*given, layout.areas), dtype),
        "area_feature": ((*given, layout.areas), torch.int64),
        "layout_position": ((*given, layout.patches), torch.int64),
        "noise": ((*given, layout.patches, generator.feature_count), dtype),
    }
    for name, (shape, kind) in wanted.items():
        part = getattr(batch, name)
        if part is None and name not in ("cluster", "latents"):
            continue
        found = getattr(part, "shape", None), getattr(part, "dtype", None)
        if not isinstance(part, Tensor) or found != (shape, kind):
            raise invalid_value(f"{field}.{name}", found, f"must be a tensor of shape {shape} and of {kind}")
        if not part.isfinite().all():
            raise invalid_value(f"{field}.{name}", "not finite", "must hold finite numbers")
    _require_numbers(field, batch, generator.feature_count)


def _require_numbers(field: str, batch: PatchBatch, features: int) -> None:
    """Raise ``ValueError`` unless clusters and features are some that there are, and each position is shown once."""
    layout = batch.layout
    if batch.contents_shape[3] != features:
        remedy = f"must have the {features} coordinates of feature_count"
        raise invalid_value(f"{field}.contents_shape", batch.contents_shape, remedy)
    limits = ("cluster", layout.clusters), ("area_feature", features)
    for name, limit in limits:
        part = getattr(batch, name)
        if part is not None and not ((part >= 0) & (part < limit)).all():
            found = f"from {part.min()} to {part.max()}"
            raise invalid_value(f"{field}.{name}", found, f"must lie in 0 to {limit - 1}")
    place = batch.layout_position
    if place is not None and not (place.sort(2).values == torch.arange(layout.patches).to(place)).all():
        words = "must have each position once in a sample"
        raise invalid_value(f"{field}.layout_position", "others", words)


def _require_views(objective: Objective, views: Any, shape: tuple[int, int]) -> None:
    """Raise ``ValueError`` unless an objective drew a tuple of its ``view_count`` views, each of this shape."""
    field, count = f"{type(objective).__name__}.draw_views", objective.view_count
    if not isinstance(views, tuple) or len(views) != count:
        found = f"{len(views)} views" if isinstance(views, tuple) else type(views).__name__
        remedy = f"must return a tuple of {count}, the view_count that its class declares"
        raise invalid_value(field, found, remedy)
    for view in views:
        if getattr(view, "shape", None) != shape or not np.isin(view, (0, 1)).all():
            remedy = f"each view must be truth values of shape {shape}: patch visible"
            raise invalid_value(field, getattr(view, "shape", view), remedy)
