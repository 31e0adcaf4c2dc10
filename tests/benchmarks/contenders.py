"""The ways to take one gradient that the benchmarks compare: one class each, all from the same ``Problem``.

A contender is set up with the data in the form that it likes. ``step`` is what is timed: the gradients of every seed.
"""

from abc import ABC, abstractmethod

import torch
from naive import LOSSES, Layer
from problems import Case, Problem

from vitdyn.dynamics import loss_gradient
from vitdyn.dynamics.gradient import Workspaces
from vitdyn.kernels.autograd_path import by_areas
from vitdyn.models import Correlations


class Contender(ABC):
    """``words`` say in the table what it is."""

    words: str

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    @abstractmethod
    def step(self):
        """Take the gradient of every seed and return it, finished, in the contender's own form."""

    @abstractmethod
    def correlations(self, found) -> Correlations:
        """Return what ``step`` found as ∂L/∂(Φ, Υ)."""

    @classmethod
    def warm(cls, case: Case) -> None:
        """Load or compile all code that a step of this case runs, without arrays of its size."""
        cls(Problem.draw(Case(objective=case.objective, patches=64, samples=16, seeds=1))).step()

    @staticmethod
    def takes(case: Case) -> bool:
        """Say whether it is written for such a case."""
        return True


class Naive(Contender):
    """One module a seed, one seed after another."""

    words = "naive `nn.Module`"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        basis = problem.basis
        self.positions, self.patches = basis.positions, problem.batch.patches(basis)
        self.loss = LOSSES[problem.case.objective]
        self.layers = [Layer(basis.dimension) for _ in problem.batch.seeds]
        for layer, matrix in zip(self.layers, problem.correlations.to_matrix(basis), strict=True):
            layer.matrix.data.copy_(matrix)

    def step(self):
        found = []
        for layer, patches, *views in zip(self.layers, self.patches, *self.problem.views, strict=True):
            loss = self.loss(layer, self.positions, patches, *views)
            found.append(torch.autograd.grad(loss, layer.matrix)[0])
        return found

    def correlations(self, found) -> Correlations:
        return Correlations.from_matrix(torch.stack(list(found)), self.problem.basis, content_queries=False)


class Vmap(Naive):
    """The naive module made functional, its gradient mapped over the seeds by ``torch.func``."""

    words = "`torch.func.vmap`"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        layer, self.matrices = self.layers[0], torch.stack([one.matrix.detach() for one in self.layers])

        def loss(matrix, patches, *views):
            call = lambda *tokens: torch.func.functional_call(layer, {"matrix": matrix}, tokens)  # noqa: E731
            return self.loss(call, self.positions, patches, *views)

        self.gradients = torch.func.vmap(torch.func.grad(loss))

    def step(self):
        return self.gradients(self.matrices, self.patches, *self.problem.views)


class Eager(Contender):
    """Φ and Υ, area attention composed of torch operations in the factored way, autograd through them."""

    words = "factored, torch autograd"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.leaves = problem.correlations.map(lambda block: block.clone().requires_grad_())
        self.loss = {"mae": self.reconstruction, "cl": self.contrast}[problem.case.objective]

    def attention(self, view: int) -> torch.Tensor:
        batch = self.problem.batch
        return by_areas(self.leaves, batch, self.problem.views[view])

    def reconstruction(self) -> torch.Tensor:
        batch, (visible,) = self.problem.batch, self.problem.views
        error = batch.latents[..., None] * (self.attention(0) - batch.membership)
        return 0.5 * (error.square().sum(2) * ~visible).sum() / batch.count

    def contrast(self) -> torch.Tensor:
        batch = self.problem.batch
        own = torch.nn.functional.one_hot(batch.cluster, batch.layout.clusters).float()[..., None]
        pooled = lambda view: (own * (batch.latents * self.attention(view).mean(-1))[:, :, None]).flatten(2)  # noqa: E731
        anchor = pooled(0)
        with torch.no_grad():
            target = pooled(1)
        likeness = torch.log_softmax(anchor @ target.transpose(1, 2), -1)
        return -likeness.diagonal(dim1=1, dim2=2).mean(1).sum()

    def step(self):
        return torch.autograd.grad(self.loss(), list(self.leaves.named().values()))

    def correlations(self, found) -> Correlations:
        return Correlations(*found)


class Ours(Contender):
    """What training runs: ``loss_gradient`` with arrays that are used again."""

    words = "vitdyn"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.objective, self.workspaces = problem.objective, Workspaces()

    def step(self):
        problem = self.problem
        return loss_gradient(
            problem.correlations, self.objective, problem.batch, problem.views, {}, self.workspaces
        )[0]

    def correlations(self, found) -> Correlations:
        return found


def contenders() -> dict[str, type[Contender]]:
    """Return all by name, slowest first; those of JAX only where it can be imported."""
    found: dict[str, type[Contender]] = {"naive": Naive, "vmap": Vmap}
    try:
        import in_jax
    except ImportError:
        pass
    else:
        found |= {"jax": in_jax.Dense, "jax_factored": in_jax.Factored}
    return found | {"eager": Eager, "ours": Ours}
