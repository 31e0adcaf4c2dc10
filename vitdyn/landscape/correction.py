"""What a teacher that follows takes back of its student's way: RC-MAE's conditional gradient correction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor

from vitdyn.landscape.operators import pulled_back
from vitdyn.landscape.surface import Tensors, Vector


@dataclass(frozen=True, kw_only=True)
class Correction:
    """The gradient of ½‖f(θ) − f̄‖² beside θ − θ̄, as vectors of all parameters.

    ``lag`` is θ − θ̄: after plain gradient descent minus η times the discounted sum of past gradients, whatever the
    model. ``linear`` is JᵀJ (θ − θ̄) with J = ∂f/∂θ, what the gradient is to first order in the lag where f̄ is the same
    f at θ̄; for a linear f the two are equal, and it is the discounted sum weighted by the products of inputs.
    """

    gradient: Vector
    linear: Vector
    lag: Vector

    @property
    def cosine(self) -> float:
        """The cosine between the gradient and the lag; NaN where one is 0."""
        return _ratio(self.gradient @ self.lag, self.gradient.norm() * self.lag.norm())

    @property
    def strength(self) -> float:
        """‖gradient‖/‖θ − θ̄‖; NaN where teacher and student are the same."""
        return _ratio(self.gradient.norm(), self.lag.norm())

    @property
    def along(self) -> float:
        """How much of the lag the gradient takes back, ⟨gradient, θ − θ̄⟩/‖θ − θ̄‖²; NaN where there is none."""
        return _ratio(self.gradient @ self.lag, self.lag @ self.lag)

    @property
    def nonlinearity(self) -> float:
        """‖gradient − linear‖/‖linear‖: of first order in the lag; NaN where there is none."""
        return _ratio((self.gradient - self.linear).norm(), self.linear.norm())


def teacher_correction(
    outputs: Callable[[Tensors], Tensor],
    parameters: Mapping[str, Tensor],
    teacher: Mapping[str, Tensor],
    target: Tensor | None = None,
) -> Correction:
    """Return what the term ½‖f(θ) − sg f̄‖² of a teacher's θ̄ pulls at: f = ``outputs``, θ = ``parameters``.

    ``target`` is f̄, by default f at the ``teacher``'s θ̄; another one is that of a teacher that is shown something else.

    >>> import torch
    >>> x = torch.tensor([3.0, 4.0])
    >>> student, teacher = {"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 0.0])}
    >>> vd.landscape.teacher_correction(lambda at: (at["w"] @ x)[None], student, teacher).gradient
    tensor([ 9., 12.])
    """
    at = {name: each.detach().clone().requires_grad_() for name, each in parameters.items()}
    leaves = tuple(at.values())
    lag = [at[name].detach() - teacher[name].detach() for name in at]
    if target is None:
        with torch.no_grad():
            target = outputs({name: teacher[name].detach() for name in at})
    with torch.enable_grad():
        made = outputs(at)
        gradient = pulled_back(made, leaves, (made - target).detach())
        # J v is the derivative of Jᵀu, which is linear in u, by u
        free = torch.zeros_like(made, requires_grad=True)
        back = torch.autograd.grad(made, leaves, free, create_graph=True, materialize_grads=True)
        (forward,) = torch.autograd.grad(back, free, lag, retain_graph=True)
        linear = pulled_back(made, leaves, forward)
    return Correction(gradient=gradient, linear=linear, lag=torch.cat([part.reshape(-1) for part in lag]))


def _ratio(above: Tensor, below: Tensor) -> float:
    return float(above / below) if below else nan
