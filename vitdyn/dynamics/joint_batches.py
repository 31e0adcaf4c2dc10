"""The batches of the cells of a grid: what several cells draw alike is drawn once.

A draw is a function of (seed, purpose, step) and of the distribution it is drawn from. Cells that differ in a
learning rate or a temperature see the same samples in the same views, cells that differ in γ the same samples.
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
from vitdyn.dynamics.grid import ReplicaBatch
from vitdyn.dynamics.resources import PRECISIONS
from vitdyn.dynamics.training import Training
from vitdyn.objectives.contract import draws_views_jointly


@dataclass(frozen=True)
class SourcesByKey:
    """One source for each different key, which draws for the different seeds of its rows.

    ``index`` has the place of each row among what all sources drew, one after the other; None if that is their order.
    """

    sources: tuple[BatchSource, ...]
    index: Int[Tensor, " row"] | None

    @classmethod
    def of(cls, rows: ReplicaBatch, key: Callable[[Training], object]) -> SourcesByKey:
        """Collect the different (key, seed) of the rows."""
        labels = {id(training): _label(key(training)) for training in rows.trainings}
        wanted = [(labels[id(own)], seed) for own, seed in zip(rows.trainings, rows.seeds, strict=True)]
        # the first training of a label stands for all: they draw alike
        owners = {labels[id(training)]: training for training in reversed(rows.trainings)}
        seeds: dict[object, list[int]] = {}
        for label, seed in dict.fromkeys(wanted):
            seeds.setdefault(label, []).append(seed)
        drawn = [(label, seed) for label, own in seeds.items() for seed in own]
        place = {pair: index for index, pair in enumerate(drawn)}
        order = [place[pair] for pair in wanted]
        sources = tuple(_source(owners[label], tuple(own), rows.device) for label, own in seeds.items())
        same = order == list(range(len(drawn)))  # as in a run of one cell, which then copies nothing
        return cls(sources, None if same else torch.tensor(order, device=rows.device))

    def join(self, parts: list[Tensor]) -> Tensor:
        """Return what each row takes of what the sources drew."""
        together = parts[0] if len(parts) == 1 else torch.cat(parts)
        return together if self.index is None else together[self.index]

    def join_batches(self, parts: list[PatchBatch], seeds: tuple[int, ...]) -> PatchBatch:
        """Return the batch of the rows, which have these seeds, of what the sources drew."""
        if len(parts) == 1 and self.index is None:  # as at every step of a run of one cell
            return parts[0]
        return parts[0].map(lambda *tensors: self.join(list(tensors)), *parts[1:], seeds=seeds)


class JointSource:
    """Where the batches of the seeds that train together come from.

    A row's batch is the one that ``BatchSource`` draws for its cell and its seed. A fixed data set is that of a cell
    which trains by itself.
    """

    def __init__(self, rows: ReplicaBatch) -> None:
        self.rows = rows
        self._samples = SourcesByKey.of(rows, lambda training: training.generator)
        self._views = SourcesByKey.of(rows, _view_key)
        self._dataset = self._samples.sources[0].dataset()

    def training(self, step: int) -> tuple[PatchBatch, Views]:
        """Return the batch of a step, with its views."""
        if self._dataset is not None:
            return self._samples.sources[0].training(step, self._dataset)
        return self._draw(step, self.rows.common.batch_size, "")

    def evaluation(self, step: int) -> tuple[PatchBatch, Views]:
        """Return the samples of a frame, which no training step sees, with their views."""
        return self._draw(step, self.rows.common.evaluation_samples, EVALUATION)

    def _draw(self, step: int, samples: int, purpose: str) -> tuple[PatchBatch, Views]:
        parts = [source.fresh(step, samples, purpose) for source in self._samples.sources]
        batch = self._samples.join_batches(parts, self.rows.seeds)
        views = zip(*(source.views(step, samples, purpose) for source in self._views.sources), strict=True)
        shown = tuple(self._views.join(list(view)) for view in views)
        return batch, shown


def _view_key(training: Training) -> object:
    """Return what decides the views of a seed, among objectives of one batch."""
    return training.objective.masking() if draws_views_jointly(training.objective) else None


def _label(drawn_from: object) -> object:
    """Return a label that two things share only if they draw alike: their text, or else their identity."""
    return id(drawn_from) if why_unnamed(drawn_from) else to_text(drawn_from)


def _source(training: Training, seeds: tuple[int, ...], device: torch.device) -> BatchSource:
    return BatchSource(
        training.generator,
        training.objective,
        seeds,
        training.batch_size,
        training.dataset_size,
        PRECISIONS[training.precision],
        device,
    )
