"""The batches of the cells of a grid: what several cells draw alike is drawn once.

A draw is a function of (seed, purpose, step) and of the law it is drawn from. Cells that differ in a learning rate or
a temperature see the same samples in the same views, cells that differ in γ the same samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from vitdyn._specs import to_text, why_unnamed
from vitdyn.data import PatchBatch
from vitdyn.dynamics.batches import EVALUATION, BatchSource, Views
from vitdyn.dynamics.grid import Rows, view_key
from vitdyn.dynamics.resources import PRECISIONS
from vitdyn.dynamics.training import Training


@dataclass(frozen=True)
class _Shared:
    """Sources that each draw for seeds of their own, and which of their rows, one after the other, each row takes."""

    sources: tuple[BatchSource, ...]
    index: Int[Tensor, " row"] | None

    def join(self, parts: list[Tensor]) -> Tensor:
        """Return what each row takes of what the sources drew."""
        together = parts[0] if len(parts) == 1 else torch.cat(parts)
        return together if self.index is None else together[self.index]


class JointSource:
    """Where the batches of the seeds that train together come from.

    A row's batch is the one that ``BatchSource`` draws for its cell and its seed. A fixed data set is that of a cell
    which trains by itself.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._samples = _share(rows, lambda training: training.generator)
        self._views = _share(rows, lambda training: view_key(training.objective))
        self._data_set = self._samples.sources[0].data_set()

    def training(self, step: int) -> tuple[PatchBatch, Views]:
        """Return the batch of a step, with its views."""
        if self._data_set is not None:
            return self._samples.sources[0].training(step, self._data_set)
        return self._draw(step, self.rows.common.samples, "")

    def evaluation(self, step: int) -> tuple[PatchBatch, Views]:
        """Return the samples of a frame, which no training step sees, with their views."""
        return self._draw(step, self.rows.common.evaluation_samples, EVALUATION)

    def _draw(self, step: int, samples: int, purpose: str) -> tuple[PatchBatch, Views]:
        parts = [source.fresh(step, samples, purpose) for source in self._samples.sources]
        cluster = self._samples.join([part.cluster for part in parts])
        latents = self._samples.join([part.latents for part in parts])
        views = zip(*(source.views(step, samples, purpose) for source in self._views.sources), strict=True)
        shown = tuple(self._views.join(list(view)) for view in views)
        return PatchBatch(parts[0].layout, self.rows.seeds, cluster, latents), shown


def _share(rows: Rows, key: Callable[[Training], object]) -> _Shared:
    """Collect the different (key, seed) of the rows: one source for each key."""
    known: dict[object, Training] = {}
    label = {id(training): _label(key(training)) for training in rows.trainings}
    for training in rows.trainings:
        known.setdefault(label[id(training)], training)
    places_of_kinds = {one: place for place, one in enumerate(known)}
    kinds = [places_of_kinds[label[id(training)]] for training in rows.trainings]
    wanted = list(zip(kinds, rows.seeds, strict=True))
    places = {one: index for index, one in enumerate(sorted(dict.fromkeys(wanted), key=lambda one: one[0]))}
    order = [places[one] for one in wanted]
    sources = tuple(
        _source(training, tuple(seed for own, seed in places if own == kind), rows.device)
        for kind, training in enumerate(known.values())
    )
    same = order == list(range(len(places)))
    return _Shared(sources, None if same else torch.tensor(order, device=rows.device))


def _label(drawn_from: object) -> object:
    """Return what two things have in common only if they draw alike: their text, or else they themselves."""
    return id(drawn_from) if why_unnamed(drawn_from) else to_text(drawn_from)


def _source(training: Training, seeds: tuple[int, ...], device: torch.device) -> BatchSource:
    return BatchSource(
        training.generator,
        training.objective,
        seeds,
        training.samples,
        training.data_set_size,
        PRECISIONS[training.precision],
        device,
    )
