"""Objectives that carry a teacher, a trained predictor, or both: what these share, to inherit from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_integer, require_real
from vitdyn.models import Parameters
from vitdyn.objectives.forward import ForwardPass, State
from vitdyn.objectives.objective import Objective
from vitdyn.objectives.parts import Descent, first_teacher, identity_map, next_teacher
from vitdyn.objectives.stacked import hyperparameter
from vitdyn.seeds import Streams


@dataclass(frozen=True, kw_only=True)
class WithTeacher(Objective):
    """An objective with a teacher, the moving average of the model, at first the model itself.

    ``momentum`` and ``momentum_steps`` are those of ``parts.next_teacher``; where a subclass may have many momenta in
    a batch, it names the first in its ``batchable_fields``.
    """

    momentum: float = field(default=0.99, metadata={"help": "m of the teacher, a moving average."})
    momentum_steps: int = field(
        default=0, metadata={"help": "Steps in which the momentum rises to 1; 0: none."}
    )

    def require_momentum(self) -> None:
        """Raise unless the momentum lies in [0, 1] and its schedule has 0 steps or more."""
        require_real("momentum", self.momentum, low=0.0, high=1.0)
        require_integer("momentum_steps", self.momentum_steps, at_least=0)

    def initial_state(self, correlations: Parameters, streams: Streams) -> State:
        """Return the teacher: the model itself."""
        return {**super().initial_state(correlations, streams), **first_teacher(correlations)}

    def update_state(self, forward: ForwardPass, correlations: Parameters) -> State:
        """Return the teacher, a step nearer to the model."""
        momentum = hyperparameter(self, lambda one: one.momentum, forward.state["teacher_steps"])
        return next_teacher(forward.state, correlations, momentum=momentum, steps=self.momentum_steps)


@dataclass(frozen=True, kw_only=True)
class WithPredictor(Objective):
    """An objective with a linear predictor W of embeddings, at first the identity, trained by plain descent.

    A subclass names ``predictor_rate`` in its ``batchable_fields`` where it varies in a batch.
    """

    predictor_rate: float = field(default=0.1, metadata={"help": "Learning rate of the linear predictor."})

    def require_rate(self) -> None:
        """Raise unless the predictor's learning rate is a number of 0 or more."""
        require_real("predictor_rate", self.predictor_rate, low=0.0, high=1e6)

    def initial_state(self, correlations: Parameters, streams: Streams) -> State:
        """Return the predictor, the identity."""
        carried = super().initial_state(correlations, streams)
        return {**carried, "predictor": identity_map(correlations, streams)}

    def optimizers(self) -> Mapping[str, Descent]:
        """Return how the predictor is trained."""
        return {"predictor": Descent(self, lambda one: one.predictor_rate)}

    def predict(
        self, forward: ForwardPass, values: Float[Tensor, "seed *rest embedding"]
    ) -> Float[Tensor, "seed *rest embedding"]:
        """Return W applied to each vector f: Σ_i f_i W_ij."""
        return (values.flatten(1, -2) @ forward.state["predictor"]).view_as(values)
