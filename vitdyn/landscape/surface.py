"""A loss as a function of parameters, about a point: what sections and curvature are taken of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from math import isfinite
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from vitdyn._errors import invalid_value, require_callable, require_choice, require_kind

Tensors = dict[str, Tensor]
Vector = Float[Tensor, " parameter"]
"""All parameters, or a direction among them, in one row: each tensor flattened, in the order of the mapping."""

STOPPED = ("frozen", "moving")
NO_SECOND = "has no second derivative: write it in operations that have one"


class Surface:
    """A loss about a point θ: ``loss`` takes tensors by name and returns a number, ``parameters`` is θ.

    The loss must be deterministic: whatever it draws (masks, views, a batch, a teacher) is drawn before and then kept,
    so that two values differ by their parameters alone. θ is copied. Directions are ``Vector``s; ``tensors`` gives
    them shapes and names.

    A loss with a stop-gradient (``detach``, ``data``) is the gradient of no function: training follows a field without
    a potential. ``stopped`` says which function is meant. "frozen": what is stopped keeps the value that it has at θ,
    so that the gradient at θ is the one that training follows, and the Hessian what double backward gives. "moving":
    the stop is passed over, and the loss is a function of θ as sections of its value draw it. What a loss makes under
    ``no_grad``, by ``detach_`` or as a number of Python moves along, and must not depend on θ, as a teacher does not.

    Raises ``ValueError`` where a parameter is not finite, not of floating point or unlike the others in precision or
    device, and where the loss is not one finite number at θ, or another one when it is asked again.

    >>> import torch
    >>> bowl = vd.landscape.Surface(lambda at: (at["w"] ** 2).sum() / 2, {"w": torch.tensor([3.0, 4.0])})
    >>> bowl.value(), bowl.gradient()
    (12.5, tensor([3., 4.]))
    """

    def __init__(
        self,
        loss: Callable[[Tensors], Tensor],
        parameters: Mapping[str, Tensor],
        *,
        stopped: str = "frozen",
    ) -> None:
        require_callable("loss", loss)
        require_choice("stopped", stopped, STOPPED)
        self.loss, self.parameters, self.stopped = loss, _checked(parameters), stopped
        self._stops = _Recorded() if stopped == "frozen" else _Passed()
        with torch.enable_grad(), self._stops:
            self._loss_at(self._leaves(None))
        # without a stop there is nothing to keep, and values need no graph
        self._has_stops = self._stops.met > 0
        # torch may round otherwise where it makes a graph: values are compared with values
        value, again = self.value(), self.value()
        if not isfinite(value):
            raise invalid_value("loss", value, "must be finite at the parameters")
        if value != again:
            words = f"was {again!r} when asked again: draw masks, views and batches once, before"
            raise invalid_value("loss", value, words)

    @property
    def dimension(self) -> int:
        """How many numbers the parameters have."""
        return sum(each.numel() for each in self.parameters.values())

    @cached_property
    def point(self) -> Vector:
        """θ as a vector."""
        return self.vector(self.parameters)

    def vector(self, tensors: Mapping[str, Tensor]) -> Vector:
        """Return tensors of the parameters' names and shapes as one vector."""
        for name, wanted in self.parameters.items():
            if name not in tensors or tensors[name].shape != wanted.shape:
                found = tuple(tensors[name].shape) if name in tensors else "missing"
                raise invalid_value(f"tensors[{name!r}]", found, f"must have the shape {tuple(wanted.shape)}")
        return torch.cat([tensors[name].reshape(-1) for name in self.parameters])

    def tensors(self, vector: Vector) -> Tensors:
        """Return a vector as tensors of the parameters' names and shapes."""
        require_kind("vector", vector, Tensor)
        if vector.shape != (self.dimension,):
            words = f"must have {self.dimension} numbers, one for each parameter's"
            raise invalid_value("vector", tuple(vector.shape), words)
        parts = vector.split([each.numel() for each in self.parameters.values()])
        named = zip(self.parameters.items(), parts, strict=True)
        return {name: part.view(like.shape) for (name, like), part in named}

    def value(self, displacement: Vector | None = None) -> float:
        """Return the loss at θ, or at θ + ``displacement``."""
        with torch.set_grad_enabled(self._has_stops), self._stopping():
            found = self._loss_at(self._leaves(displacement))
        return found.item()

    def gradient(self, displacement: Vector | None = None) -> Vector:
        """Return the gradient at θ, or at θ + ``displacement``."""
        return self.differentiable_gradient(displacement, create_graph=False)[0]

    def differentiable_gradient(
        self, displacement: Vector | None = None, *, create_graph: bool = True
    ) -> tuple[Vector, tuple[Tensor, ...]]:
        """Return the gradient, which may be differentiated again, and the parameters that it is a function of.

        Raises ``ValueError`` where a parameter has no gradient, and where an operation has no second derivative.
        """
        leaves = self._leaves(displacement)
        with torch.enable_grad():
            with self._stopping():
                loss = self._loss_at(leaves)
            if not loss.requires_grad:
                words = "must be a differentiable function of the parameters"
                raise invalid_value("loss", loss.item(), words)
            if create_graph:
                require_twice_differentiable(loss, _WRONG)
            found = torch.autograd.grad(
                loss, tuple(leaves.values()), create_graph=create_graph, allow_unused=True
            )
            for name, part in zip(leaves, found, strict=True):
                if part is None:
                    raise invalid_value("parameters", name, "does not enter the loss: leave it out")
            # joined while operations are recorded: what is asked for it next is its own derivative
            return torch.cat([part.reshape(-1) for part in found]), tuple(leaves.values())

    def moved(self, displacement: Vector) -> Surface:
        """Return the same loss about θ + ``displacement``."""
        return Surface(self.loss, self._moved(displacement), stopped=self.stopped)

    def _leaves(self, displacement: Vector | None) -> Tensors:
        at = self.parameters if displacement is None else self._moved(displacement)
        return {name: tensor.detach().clone().requires_grad_() for name, tensor in at.items()}

    def _stopping(self) -> AbstractContextManager[Any]:
        """Return what stands in for each stop-gradient while the loss is evaluated."""
        return self._stops.again() if self._has_stops else nullcontext()

    def _moved(self, displacement: Vector) -> Tensors:
        return {name: self.parameters[name] + part for name, part in self.tensors(displacement).items()}

    def _loss_at(self, tensors: Tensors) -> Tensor:
        loss = self.loss(tensors)
        if not isinstance(loss, Tensor) or loss.ndim or not loss.is_floating_point():
            found = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise invalid_value("loss", found, "must return one real number, a tensor of no axis")
        return loss


class _Passed(TorchFunctionMode):
    """Passes over each ``detach`` of what depends on the parameters; ``met`` counts them."""

    met = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # what needs no gradient is no part of the loss's graph: libraries detach it for reasons of their own
        if func in _DETACH and torch.is_grad_enabled() and args[0].requires_grad:
            self.met += 1
            return self.instead_of(args[0])
        return func(*args, **(kwargs or {}))

    def instead_of(self, value: Tensor) -> Tensor:
        """Return what takes the place of a stopped value."""
        return value

    def again(self) -> _Passed:
        """Return what stands in at another evaluation."""
        return self


class _Recorded(_Passed):
    """Keeps each stopped value as it is at first, in the order in which the loss stops them."""

    def __init__(self, kept: Sequence[Tensor] | None = None) -> None:
        super().__init__()
        self.recording, self.kept = kept is None, list(kept or ())

    def instead_of(self, value: Tensor) -> Tensor:
        if self.recording:
            self.kept.append(value.detach().clone())
        if self.met > len(self.kept) or self.kept[self.met - 1].shape != value.shape:
            raise invalid_value("loss", f"stop-gradient {self.met}", _ALIKE)
        return self.kept[self.met - 1].clone()  # a loss may write to it

    def again(self) -> _Recorded:
        return _Recorded(self.kept)

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        if raised[0] is None and self.met < len(self.kept):
            raise invalid_value("loss", f"{self.met} stop-gradients", _ALIKE)


def require_twice_differentiable(value: Tensor, wrong: Sequence[str] = ()) -> None:
    """Raise where a value passes through what is marked once_differentiable, or is one of ``wrong``.

    torch would take what such an operation adds to the second derivative for 0, or for something else.
    """
    seen: set[Any] = {None}
    ahead: list[Any] = [value.grad_fn]
    while ahead:
        node = ahead.pop()
        if node in seen:
            continue
        seen.add(node)
        backward = getattr(getattr(node, "_forward_cls", None), "backward", None)
        if getattr(backward, "__code__", None) is _ONCE or node.name() in wrong:
            raise invalid_value("loss", node.name(), NO_SECOND)
        ahead += [before for before, _ in node.next_functions]


_ONCE = once_differentiable(lambda _: None).__code__
"""The code of every backward that is marked so."""
_ALIKE = "must be met alike at all parameters"
_WRONG = ("WeightNormInterfaceBackward0",)
"""Operations whose second derivative is wrong in torch: it fails ``torch.autograd.gradgradcheck``."""
_DETACH = (torch.Tensor.detach, torch.detach, torch.Tensor.data.__get__)  # type: ignore[attr-defined]


def _checked(parameters: Mapping[str, Tensor]) -> Tensors:
    require_kind("parameters", parameters, Mapping)
    if not parameters:
        raise invalid_value("parameters", parameters, "must hold one tensor or more, by name")
    kept: Tensors = {}
    for name, each in parameters.items():
        if not isinstance(each, Tensor) or not each.is_floating_point() or not each.numel():
            words = "must be a tensor of one real number or more"
            raise invalid_value(f"parameters[{name!r}]", type(each).__name__, words)
        if not each.isfinite().all():
            raise invalid_value(f"parameters[{name!r}]", "not finite", "must hold finite numbers")
        kept[name] = each.detach().clone()
    kinds = {(each.dtype, each.device) for each in kept.values()}
    if len(kinds) > 1:
        raise invalid_value("parameters", sorted(map(str, kinds)), "must have one precision and one device")
    return kept


def module_surface(
    module: nn.Module, loss: Callable[[nn.Module], Tensor], *, stopped: str = "frozen"
) -> Surface:
    """Return the surface of ``loss(module)`` over the parameters of a torch module that require gradients.

    The module is not changed, and may be trained on: its other parameters, its buffers and the mode of each part
    (training or evaluation) are at each evaluation what they are now. Dropout, or whatever else draws while it is
    evaluated, makes the loss another one at each call, which ``Surface`` refuses; ``stopped`` is its.

    >>> import torch
    >>> line, x = torch.nn.Linear(2, 1), torch.ones(3, 2)
    >>> vd.landscape.module_surface(line, lambda module: module(x).square().mean()).dimension
    3
    """
    require_kind("module", module, nn.Module)
    require_callable("loss", loss)
    trained = {name: each for name, each in module.named_parameters() if each.requires_grad}
    if not trained:
        raise invalid_value("module", type(module).__name__, "must have a parameter that requires a gradient")
    others = [*module.named_buffers(), *module.named_parameters()]
    kept = {name: each.detach().clone() for name, each in others if name not in trained}
    modes = _modes(module)

    def loss_of(tensors: Tensors) -> Tensor:
        # copied for each call: a batch norm writes to its buffers, a centre moves
        state = {**tensors, **{name: each.clone() for name, each in kept.items()}}
        renamed = {f"module.{name}": each for name, each in state.items()}
        before = _modes(module)
        try:
            _set_modes(modes)
            return torch.func.functional_call(_Called(module, loss), renamed, ())
        finally:
            _set_modes(before)

    return Surface(loss_of, trained, stopped=stopped)


def _modes(module: nn.Module) -> list[tuple[nn.Module, bool]]:
    """Return each part of a module, and whether it is in training."""
    return [(part, part.training) for part in module.modules()]


def _set_modes(modes: Sequence[tuple[nn.Module, bool]]) -> None:
    for part, training in modes:
        part.training = training


class _Called(nn.Module):
    """A module whose output is a function of another module: what ``functional_call`` can call."""

    def __init__(self, module: nn.Module, loss: Callable[[nn.Module], Tensor]) -> None:
        super().__init__()
        self.module, self._loss = module, loss

    def forward(self) -> Tensor:
        return self._loss(self.module)
