"""Symmetric linear operators that curvature is read off: the Hessian of a loss, by products with vectors alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from threading import Lock
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from vitdyn._errors import invalid_value, require_callable, require_kind
from vitdyn.landscape.surface import NO_SECOND, Surface, Tensors, Vector, require_twice_differentiable


class Operator(Protocol):
    """A symmetric matrix by its products with vectors."""

    @property
    def dimension(self) -> int:
        """How many rows it has."""
        ...

    @property
    def like(self) -> Tensor:
        """A tensor of the precision and device that its vectors have."""
        ...

    def __matmul__(self, vector: Float[Tensor, " parameter"]) -> Float[Tensor, " parameter"]:
        """Return the product with a vector."""
        ...


class Matrix:
    """A symmetric matrix that is there in full, as an ``Operator``."""

    def __init__(self, entries: Float[Tensor, "parameter parameter"]) -> None:
        require_kind("entries", entries, Tensor)
        if entries.ndim != 2 or entries.shape[0] != entries.shape[1] or not entries.is_floating_point():
            words = "must be a square matrix of real numbers"
            raise invalid_value("entries", f"{tuple(entries.shape)} {entries.dtype}", words)
        self.entries = entries.detach()

    @property
    def dimension(self) -> int:
        """How many rows it has."""
        return len(self.entries)

    @property
    def like(self) -> Tensor:
        """Its entries."""
        return self.entries

    def __matmul__(self, vector: Vector) -> Vector:
        """Return the product with a vector."""
        return self.entries @ _checked(vector, self)


class _OfSurface:
    """What all operators on the parameters of a ``surface`` are: of its dimension, and like its point."""

    surface: Surface

    @property
    def dimension(self) -> int:
        """How many parameters there are."""
        return self.surface.dimension

    @property
    def like(self) -> Tensor:
        """The point, whose precision and device the vectors have."""
        return self.surface.point


class Hessian(_OfSurface):
    """The Hessian H = ∂²L/∂θ² of a surface at its point, as the products H v.

    The graph of the gradient is made once and differentiated at each product: as many backward passes as products.
    torch's fused attention has no second derivative: its plain form is taken instead. ``ValueError`` names any other
    operation that has none.

    >>> import torch
    >>> bowl = vd.landscape.Surface(lambda at: (at["w"] ** 4).sum(), {"w": torch.tensor([1.0, 2.0])})
    >>> vd.landscape.Hessian(bowl) @ torch.tensor([1.0, 1.0])
    tensor([12., 48.])
    """

    def __init__(self, surface: Surface) -> None:
        require_kind("surface", surface, Surface)
        self.surface = surface

    @cached_property
    def _gradient(self) -> tuple[Vector, tuple[Tensor, ...]]:
        with twice_differentiable():
            return self.surface.differentiable_gradient()

    def __matmul__(self, vector: Vector) -> Vector:
        """Return H v."""
        vector = _checked(vector, self)
        gradient, leaves = self._gradient
        if not gradient.requires_grad:  # a loss that is linear
            return torch.zeros_like(vector)
        with _errors_in_one_line():
            return pulled_back(gradient, leaves, vector)


class GaussNewton(_OfSurface):
    """The part Jᵀ (∂²ℓ/∂f²) J of the Hessian of ℓ(f(θ)), J = ∂f/∂θ: curvature of the loss of outputs alone.

    ``outputs`` takes tensors by name and returns f, one tensor of any shape; ``loss`` takes f and returns a number;
    ``parameters`` is θ. What is left of the Hessian, Σ_i ∂ℓ/∂f_i ∂²f_i/∂θ², is that of the outputs themselves:
    ``Difference(Hessian(part.surface), part)``. Positive semi-definite where ℓ is convex.

    >>> import torch
    >>> w = {"w": torch.tensor([1.0, 2.0])}
    >>> part = vd.landscape.GaussNewton(lambda at: at["w"] ** 2, lambda f: (f - 5).square().sum() / 2, w)
    >>> vector = torch.ones(2)
    >>> part @ vector, vd.landscape.Difference(vd.landscape.Hessian(part.surface), part) @ vector
    (tensor([ 4., 16.]), tensor([-8., -2.]))
    """

    def __init__(
        self,
        outputs: Callable[[Tensors], Tensor],
        loss: Callable[[Tensor], Tensor],
        parameters: Mapping[str, Tensor],
    ) -> None:
        require_callable("outputs", outputs)
        require_callable("loss", loss)
        self.outputs, self.loss = outputs, loss
        self.surface = Surface(lambda at: loss(outputs(at)), parameters)

    @cached_property
    def _graphs(self) -> tuple[Tensor, tuple[Tensor, ...], Tensor, Vector, Tensor, Tensor]:
        """f(θ) and θ; u and Jᵀu, whose derivative along v is J v; f by itself and ∂ℓ/∂f there."""
        leaves = {name: each.clone().requires_grad_() for name, each in self.surface.parameters.items()}
        with torch.enable_grad(), twice_differentiable():
            found = self.outputs(leaves)
            if not isinstance(found, Tensor) or not found.requires_grad:
                words = "must return one tensor, a differentiable function of the parameters"
                raise invalid_value("outputs", type(found).__name__, words)
            apart = found.detach().requires_grad_()
            loss = self.loss(apart)
            for each in (found, loss):
                require_twice_differentiable(each)
            cotangent = torch.zeros_like(found, requires_grad=True)
            pulled = pulled_back(found, tuple(leaves.values()), cotangent, create_graph=True)
            (slope,) = torch.autograd.grad(loss, apart, create_graph=True)
        return found, tuple(leaves.values()), cotangent, pulled, apart, slope

    def __matmul__(self, vector: Vector) -> Vector:
        """Return Jᵀ (∂²ℓ/∂f²) J v."""
        vector = _checked(vector, self)
        found, leaves, cotangent, pulled, apart, slope = self._graphs
        if not slope.requires_grad:  # ℓ is linear
            return torch.zeros_like(vector)
        with _errors_in_one_line():
            along = pulled_back(pulled, (cotangent,), vector).view_as(found)
            return pulled_back(found, leaves, pulled_back(slope, (apart,), along).view_as(found))


class Difference:
    """One operator less another, of one dimension."""

    def __init__(self, first: Operator, second: Operator) -> None:
        if first.dimension != second.dimension:
            raise invalid_value("second", second.dimension, f"must have the dimension {first.dimension}")
        self.first, self.second = first, second

    @property
    def dimension(self) -> int:
        """How many rows they have."""
        return self.first.dimension

    @property
    def like(self) -> Tensor:
        """The first one's."""
        return self.first.like

    def __matmul__(self, vector: Vector) -> Vector:
        """Return the product with a vector."""
        return self.first @ vector - self.second @ vector


def pulled_back(
    of: Tensor, leaves: tuple[Tensor, ...], cotangent: Tensor, *, create_graph: bool = False
) -> Vector:
    """Return cotangentᵀ ∂of/∂leaves in one row; the graph is kept."""
    found = torch.autograd.grad(
        of, leaves, cotangent, retain_graph=True, create_graph=create_graph, materialize_grads=True
    )
    return torch.cat([part.reshape(-1) for part in found])


def _checked(vector: Vector, operator: Operator) -> Vector:
    """Return a vector. Raises ``ValueError`` unless it is one that the operator can be multiplied with."""
    require_kind("vector", vector, Tensor)
    like = operator.like
    wanted, found = (
        ((operator.dimension,), like.dtype, like.device),
        (tuple(vector.shape), vector.dtype, vector.device),
    )
    if wanted != found:
        words = f"must be a vector of {wanted[0][0]} numbers in {like.dtype} on {like.device}"
        raise invalid_value("vector", " ".join(map(str, found)), words)
    if not vector.isfinite().all():
        raise invalid_value("vector", "not finite", "must hold finite numbers")
    return vector


class _PlainAttention:
    """Lets torch take attention in its plain form while any thread is inside: the choice is one for all threads."""

    def __init__(self) -> None:
        self._lock, self._inside, self._choice = Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._choice.enter_context(sdpa_kernel(SDPBackend.MATH))
            self._inside += 1

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._choice.close()


_PLAIN_ATTENTION = _PlainAttention()


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Take attention in its plain form while a graph is made, and name an operation that has no second derivative."""
    with _PLAIN_ATTENTION, _errors_in_one_line():
        yield


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Name an operation that has no second derivative."""
    try:
        yield
    except RuntimeError as error:
        said = str(error)
        if "derivative for" in said:  # torch has no class for it
            raise invalid_value("loss", said, NO_SECOND) from error
        raise
