"""DeepCluster-v2: views predict the cluster of a sample, clusters found by k-means among the outputs of late."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value, require_integer, require_real
from vitdyn.data import PatchLayout
from vitdyn.losses import deepcluster, nearest, spherical_k_means
from vitdyn.models import Parameters
from vitdyn.objectives.forward import ForwardPass, State
from vitdyn.objectives.parts import next_queue, unit_vectors
from vitdyn.objectives.stacked import hyperparameter
from vitdyn.objectives.two_views import TwoViews
from vitdyn.seeds import Streams


@dataclass(frozen=True, kw_only=True)
class DeepCluster(TwoViews):
    """DeepCluster-v2: cross-entropy between the cluster of one view and the softmax over clusters of the other.

        L = −½ E_b [ log p²_{b,k¹(b)} + log p¹_{b,k²(b)} ],   p = softmax_k(s/τ),   s_bk = cos(F_b, c_k)

    k(b) = argmax_k s_bk. The K_p = ``prototypes`` centroids c_k take no gradient. Every ``period`` steps they are found
    anew by spherical k-means, ``iterations`` of Lloyd's, among the last ``memory`` pooled outputs of first views,
    starting from K_p of these at places that each seed draws once. Before the first time they are random unit vectors,
    and so is what the memory does not hold yet. In the source samples come again, and have the cluster that they had an
    epoch before; here samples are fresh, so each has that of its other view. τ = ``temperature``, γ = ``mask_ratio`` in
    each of two ``views``. Source: Caron et al. (2020), the DeepCluster-v2 of their code.

    >>> vd.objectives.DeepCluster(prototypes=4, memory=64).period
    10
    """

    name: ClassVar[str] = "deepcluster"
    family: ClassVar[str] = "clustering"
    batchable_fields: ClassVar[tuple[str, ...]] = ("mask_ratio", "temperature")
    least_samples: ClassVar[int] = 1

    prototypes: int = field(default=8, metadata={"help": "K_p, how many clusters."})
    memory: int = field(default=256, metadata={"help": "How many outputs k-means goes over, the latest."})
    period: int = field(default=10, metadata={"help": "Steps from one k-means to the next."})
    iterations: int = field(default=10, metadata={"help": "Iterations of k-means."})
    temperature: float = field(default=0.1, metadata={"help": "τ of the softmax over clusters."})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("prototypes", 2), ("memory", 2), ("period", 1), ("iterations", 1)):
            require_integer(name, getattr(self, name), at_least=least, at_most=10**6)
        if self.prototypes > self.memory:
            raise invalid_value("prototypes", self.prototypes, f"must be at most memory, {self.memory}")
        require_real("temperature", self.temperature, low=0.0, high=1e6, open_low=True)

    def initial_state(self, correlations: Parameters, streams: Streams) -> State:
        """Return random unit vectors, the places in the memory where k-means starts, and a count of steps."""
        drawn = unit_vectors(correlations, streams, self.memory + self.prototypes)
        picks = [each.permutation(self.memory)[: self.prototypes] for each in streams.each()]
        return {
            "memory": drawn[:, self.prototypes :],
            "centroids": drawn[:, : self.prototypes],
            "starts": torch.from_numpy(np.stack(picks)).to(drawn.device),
            "steps": torch.zeros_like(drawn[:, 0, 0]),
        }

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return L, averaged over the samples."""
        centroids, views = forward.state["centroids"], [forward.embeddings(view) for view in (0, 1)]
        temperature = hyperparameter(self, lambda one: one.temperature, centroids)
        first, second = (
            deepcluster(mine, centroids, nearest(other, centroids), temperature=temperature)
            for mine, other in (views, views[::-1])
        )
        return 0.5 * (first + second)

    def update_state(self, forward: ForwardPass, correlations: Parameters) -> State:
        """Return the memory with this step's outputs at its front, and the centroids, found anew where it is time."""
        state, steps = forward.state, forward.state["steps"] + 1
        memory = next_queue(state["memory"], forward.embeddings())
        start = memory.gather(1, state["starts"][..., None].expand(-1, -1, memory.shape[2]))
        found = spherical_k_means(memory, start, iterations=self.iterations)
        # decided by each seed's own count, on the device: the host would have to wait for it
        is_due = (steps % self.period == 0)[:, None, None]
        centroids = torch.where(is_due, found, state["centroids"])
        return {"memory": memory, "centroids": centroids, "starts": state["starts"], "steps": steps}

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return P K: mean pooling divides the gradient of one position by P, the draw of a cluster by K."""
        return 1.0 * layout.patches * layout.clusters
