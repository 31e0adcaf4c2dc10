"""MoCo: a query attracts the key that a slow teacher makes of the other view; other samples' keys repel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_boolean, require_integer, require_real
from vitdyn.data import PatchLayout
from vitdyn.losses import moco_v2, moco_v3, unit_vectors
from vitdyn.models import Parameters
from vitdyn.objectives.forward import ForwardPass, State
from vitdyn.objectives.parts import next_queue, teacher_of
from vitdyn.objectives.parts import unit_vectors as random_unit_vectors
from vitdyn.objectives.stacked import hyperparameter
from vitdyn.objectives.teacher import WithPredictor, WithTeacher
from vitdyn.objectives.two_views import TwoViews
from vitdyn.seeds import Streams


@dataclass(frozen=True, kw_only=True)
class MoCo(TwoViews, WithPredictor, WithTeacher):
    """MoCo v3: InfoNCE between the pooled output of a view and the keys that a moving-average teacher makes.

        L = ctr(q⁺, k⁺⁺) + ctr(q⁺⁺, k⁺),   ctr(q, k) = −2τ E_b log( e^{⟨q_b, k_b⟩/τ} / Σ_c e^{⟨q_b, k_c⟩/τ} )

    q = F W of the model, k = F̄ of its teacher, both made unit vectors unless ``normalise`` is false; W is the
    ``predictor``, linear, the identity at first and trained at ``predictor_rate``, or absent. After each step the
    teacher moves, θ̄ ← m θ̄ + (1 − m) θ, m = ``momentum``, rising to 1 by a cosine over ``momentum_steps`` unless
    these are 0. With a ``queue`` of so many earlier keys, random at first, it is MoCo v1 and v2: one direction, the
    queue as the only negatives, no factor 2τ. Sources: Chen, Xie and He (2021); He et al. (2020).

    >>> vd.objectives.MoCo(queue=64, temperature=0.07).momentum
    0.99
    """

    name: ClassVar[str] = "moco"
    family: ClassVar[str] = "contrastive"
    batchable_fields: ClassVar[tuple[str, ...]] = ("mask_ratio", "temperature", "momentum", "predictor_rate")

    temperature: float = field(default=0.2, metadata={"help": "τ, the temperature of InfoNCE."})
    queue: int = field(default=0, metadata={"help": "Earlier keys as negatives, in place of the batch's."})
    predictor: bool = field(default=False, metadata={"help": "Whether a linear map is trained on queries."})
    normalise: bool = field(default=True, metadata={"help": "Whether similarities are cosines."})

    def __post_init__(self) -> None:
        super().__post_init__()
        require_real("temperature", self.temperature, low=0.0, high=1e6, open_low=True)
        self.require_momentum()
        self.require_rate()
        require_integer("queue", self.queue, at_least=0, at_most=10**6)
        require_boolean("predictor", self.predictor)
        require_boolean("normalise", self.normalise)

    def loss(self, forward: ForwardPass) -> Float[Tensor, " seed"]:
        """Return the sum of both directions; with a queue, that of the first view's query alone."""
        queries = [self._query(forward, view) for view in (0, 1)]
        temperature = hyperparameter(self, lambda one: one.temperature, queries[0])
        options: dict[str, Any] = {"temperature": temperature, "normalise": self.normalise}
        if self.queue:
            return moco_v2(queries[0], self._key(forward, 1), forward.state["queue"], **options)
        first, second = (moco_v3(queries[view], self._key(forward, 1 - view), **options) for view in (0, 1))
        return first + second

    def initial_state(self, correlations: Parameters, streams: Streams) -> State:
        """Return a teacher that is the model, and, where asked for, the predictor and a queue of random directions."""
        state = dict(super().initial_state(correlations, streams))
        if not self.predictor:
            del state["predictor"]
        if self.queue:
            state["queue"] = random_unit_vectors(correlations, streams, self.queue)
        return state

    def optimizers(self) -> Mapping[str, Any]:
        """Return how the predictor is trained, where there is one."""
        return super().optimizers() if self.predictor else {}

    def update_state(self, forward: ForwardPass, correlations: Parameters) -> State:
        """Return the teacher after its step, and the queue with this step's keys at its front."""
        state = dict(super().update_state(forward, correlations))
        if self.queue:
            key = self._key(forward, 1)
            state["queue"] = next_queue(forward.state["queue"], unit_vectors(key) if self.normalise else key)
        return state

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return 4 P K: mean pooling divides the gradient of one position by P, the draw of a cluster by K."""
        return 4.0 * layout.patches * layout.clusters

    def _query(self, forward: ForwardPass, view: int) -> Tensor:
        pooled = forward.embeddings(view)
        return self.predict(forward, pooled) if self.predictor else pooled

    def _key(self, forward: ForwardPass, view: int) -> Tensor:
        return forward.embeddings(view, teacher_of(forward.state))
