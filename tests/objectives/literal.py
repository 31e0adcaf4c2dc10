"""Objectives once more, slowly: one seed at a time, plain tensors, loops over samples, state in a dict.

A ``Case`` is a listed objective and its literal transcription, which sees a batch as ``Seen``: outputs in coordinates
(k, j) of all clusters' features. The same transcription is compared with the package's loss at random models
(``test_closed_forms``) and trains the dense twin (``dense``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from vitdyn.objectives import Objective
from vitdyn.objectives.contract import first_state
from vitdyn.objectives.parts import teacher_of


@dataclass(frozen=True)
class Seen:
    """One seed's batch through a model: all that a literal loss may look at.

    ``outputs(view, teacher)`` is (sample, patch, embedding), of the model or, asked for so, of its teacher; view None
    has no masks. ``patches`` are X_p in the same coordinates, ``area`` (sample, patch) the coordinate that X_p has,
    ``views`` (sample, patch) what each view shows, ``state`` what the objective carries, without a seed axis,
    ``features`` the coordinates that stand for a feature: not all clusters have all areas.
    """

    outputs: Callable[..., Tensor]
    patches: Tensor
    area: Tensor
    views: tuple[Tensor, ...]
    state: Mapping[str, Tensor]
    features: Sequence[int]

    @property
    def samples(self) -> range:
        """The samples' numbers."""
        return range(len(self.patches))

    def pooled(self, view: int | None = 0, teacher: bool = False) -> list[Tensor]:
        """mean_p F_p of each sample."""
        return [sample.sum(0) / len(sample) for sample in self.outputs(view, teacher)]


@dataclass(frozen=True)
class Case:
    """An objective, its ``loss`` written as loops, of which ``kinds`` its closed form is, and another cell of a grid.

    ``other`` has a value of each of its batchable fields that it can train with beside its own. A case with a
    teacher gives the teacher's ``momentum`` at step t; ``update`` gives what else it carries, but no trained part,
    after a step, of what it saw in that step.
    """

    objective: Objective
    loss: Callable[[Seen], Tensor]
    kinds: frozenset[type] = frozenset()
    other: Mapping[str, float] = field(default_factory=dict)
    momentum: Callable[[int], float] | None = None
    update: Callable[[Seen], Mapping[str, Tensor]] = lambda seen: {}


def seen_by(forward, seed):
    """One seed of a forward pass of the package, every F_p put together from area attention."""
    batch = forward.batch
    clusters, areas, patches = batch.layout.clusters, batch.layout.areas, batch.layout.patches
    kinds = batch.cluster[seed].tolist()

    @cache
    def outputs(view, teacher=False):
        attention = forward.attend(teacher_of(forward.state), view) if teacher else forward.attention[view]
        found = torch.zeros(batch.count, patches, clusters * areas, dtype=batch.latents.dtype)
        for b, cluster in enumerate(kinds):
            for j in range(areas):
                found[b, :, cluster * areas + j] = batch.latents[seed, b, j] * attention[seed, b, j]
        return found

    area = torch.tensor([[k * areas + j for j in batch.layout.partition[k]] for k in kinds])
    content = torch.zeros(batch.count, patches, clusters * areas, dtype=batch.latents.dtype)
    for b in range(batch.count):
        for p in range(patches):
            content[b, p, area[b, p]] = batch.latents[seed, b, area[b, p] % areas]
    state = {name: value[seed] for name, value in forward.state.items()}
    views = tuple(view[seed] for view in forward.views)
    return Seen(outputs, content, area, views, state, features_of(batch.layout))


def features_of(layout):
    """The coordinates (k, j) of the areas that clusters have."""
    return layout.sizes.flatten().nonzero()[0].tolist()


def moved_state(objective, correlations, rng):
    """The state before the first step, its numbers moved by noise: a teacher is then not the student."""
    start = first_state(objective, correlations, tuple(range(correlations.seeds)))
    return {
        name: value + 0.3 * torch.from_numpy(rng.standard_normal(value.shape))
        if value.is_floating_point()
        else value
        for name, value in start.items()
    }
