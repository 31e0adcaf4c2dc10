"""What objectives carry from step to step: a moving-average teacher, random unit vectors, identity maps, a queue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import pi
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn.models import Parameters, as_parameters
from vitdyn.objectives.forward import State
from vitdyn.objectives.stacked import add_scaled, hyperparameter
from vitdyn.seeds import Streams

TEACHER = "teacher."


def first_teacher(correlations: Parameters) -> State:
    """Return a teacher that is the model itself, before its first step."""
    blocks = {f"{TEACHER}{name}": block for name, block in correlations.named().items()}
    # counted here, and not by the host: a captured step must find it
    return {**blocks, "teacher_steps": correlations.like.new_zeros(correlations.seeds)}


def teacher_of(state: State) -> Parameters:
    """Return the teacher that a state carries."""
    blocks = {name: value for name, value in state.items() if name.startswith(TEACHER)}
    return as_parameters({name.removeprefix(TEACHER): block for name, block in blocks.items()})


def next_teacher(
    state: State, correlations: Parameters, *, momentum: Any, steps: int = 0, period: int = 0
) -> State:
    """Return the teacher after a step: θ̄ ← m θ̄ + (1 − m) θ, θ being the model after that step.

    m = ``momentum``, a number or one for each seed; with ``steps`` T it rises to 1 over the first T of them,
    m_t = 1 − (1 − m)(1 + cos(π t/T))/2, t being the number of steps done before, which with a ``period`` starts at 0
    again after so many. Source: Grill et al. (2020).
    """
    done = state["teacher_steps"]
    towards = 1 - torch.as_tensor(momentum, dtype=done.dtype, device=done.device).expand_as(done)
    if steps:
        counted = done % period if period else done
        towards = towards * (1 + torch.cos(pi * (counted / steps).clamp(max=1))) / 2

    def moved(old: Tensor, new: Tensor) -> Tensor:
        return torch.lerp(old, new, towards.view(-1, *[1] * (old.ndim - 1)))

    blocks = teacher_of(state).map(moved, correlations).named()
    return {**{f"{TEACHER}{name}": block for name, block in blocks.items()}, "teacher_steps": done + 1}


def embedding_size(correlations: Parameters) -> int:
    """Return F, K · N on today's data: the number of coordinates of ``forward.embeddings``."""
    return correlations.feature_count


def identity_map(correlations: Parameters, streams: Streams) -> Float[Tensor, "seed embedding embedding"]:
    """Return the linear map that a projector or predictor starts from: the identity, for each seed."""
    size = embedding_size(correlations)
    return torch.eye(size).to(correlations.like).repeat(len(streams.seeds), 1, 1)


def unit_vectors(
    correlations: Parameters, streams: Streams, count: int
) -> Float[Tensor, "seed vector embedding"]:
    """Return random unit vectors of the space of embeddings, uniform on the sphere, each seed's from its own stream."""
    size = embedding_size(correlations)
    drawn = [torch.from_numpy(each.standard_normal((count, size))) for each in streams.each()]
    vectors = torch.nn.functional.normalize(torch.stack(drawn), dim=-1)
    return vectors.to(correlations.like)


def next_queue(
    queue: Float[Tensor, "seed entry embedding"], new: Float[Tensor, "seed sample embedding"]
) -> Float[Tensor, "seed entry embedding"]:
    """Return a queue with new entries at its front and its oldest gone."""
    return torch.cat([new.detach(), queue], 1)[:, : queue.shape[1]]


@dataclass(frozen=True)
class Descent:
    """The optimizer of a trained part: plain gradient descent at the rate that ``rate`` reads off an objective.

    It is read by ``hyperparameter``, so that objectives that differ in it train as one batch.
    """

    objective: Any
    rate: Callable[[Any], float]

    @property
    def learning_rate(self) -> float:
        """The rate, of the first of stacked objectives."""
        return self.rate(self.objective)

    def init(self, part: Any) -> Mapping[str, Any]:
        """Return the state before the first step: none."""
        return {}

    def step(self, part: Any, gradient: Any, state: Mapping[str, Any], count: int) -> None:
        """Take one step in place."""
        rate = self.rate

        def move(value: Tensor, slope: Tensor) -> Tensor:
            return add_scaled(value, slope, hyperparameter(self.objective, lambda one: -rate(one), value))

        part.map(move, gradient)
