"""What the benchmarks solve: one batch, its views and a model away from the start, all drawn from a ``Case``."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from vitdyn.data import Basis, PatchBatch, PatchGenerator, PatchLayout, orthonormal_basis
from vitdyn.dynamics.batches import BatchSource
from vitdyn.models import Correlations
from vitdyn.objectives import Contrastive, MaskedReconstruction, Objective

OBJECTIVES = {"mae": MaskedReconstruction, "cl": Contrastive}
SHAPES = [(64, 64, 8), (128, 64, 8), (256, 64, 4), (256, 256, 2), (1024, 64, 1)]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the table: P, samples of a step, seeds, clusters and areas of each cluster.

    The global area takes what the others leave, which have P / (2 areas) positions each.
    """

    objective: str = "mae"
    patches: int = 256
    samples: int = 64
    seeds: int = 4
    clusters: int = 1
    areas: int = 4

    def __str__(self) -> str:
        parts = [self.objective, f"P{self.patches}", f"B{self.samples}", f"seeds{self.seeds}"]
        parts += [f"K{self.clusters}"] if self.clusters > 1 else []
        return "-".join(parts + ([f"N{self.areas}"] if self.areas != 4 else []))

    @cached_property
    def layout(self) -> PatchLayout:
        local = max(1, self.patches // (2 * self.areas))
        sizes = [self.patches - (self.areas - 1) * local] + [local] * (self.areas - 1)
        return PatchLayout.from_sizes(sizes, clusters=self.clusters, arrangement="contiguous")

    @property
    def operations(self) -> int:
        """Floating-point operations of a seed's step, dense-equivalent.

        A product of P·P·samples multiply-adds is 2 P² B. A view that is differentiated counts two of them, one
        behind a stop-gradient counts one: 4 P² B for masked reconstruction, 6 P² B for contrast. Whoever does
        more, or skips masked keys, is credited with the same number.
        """
        products = 2 if self.objective == "mae" else 3
        return products * 2 * self.patches**2 * self.samples

    @property
    def compulsory_bytes(self) -> int:
        """Bytes that a seed's step cannot avoid: Φ, Υ and their gradients, latents, one byte for each mask bit."""
        views = 1 if self.objective == "mae" else 2
        model = self.patches**2 + self.patches * self.clusters * self.areas
        return 8 * model + self.samples * (views * self.patches + 4 * self.areas)

    @property
    def dense_bytes(self) -> int:
        """Roughly what autograd through full attention holds for one seed: a dozen arrays (sample, query, key)."""
        return 12 * 4 * self.samples * self.patches**2

    def source(self) -> BatchSource:
        return BatchSource(
            generator=PatchGenerator(layout=self.layout),
            objective=OBJECTIVES[self.objective](),
            seeds=tuple(range(self.seeds)),
            samples=self.samples,
            dataset_size=None,
            dtype=torch.float32,
            device=torch.device("cpu"),
        )


@dataclass(frozen=True)
class Problem:
    """A batch, its views and the model whose gradient is asked for, in float32."""

    case: Case
    batch: PatchBatch
    views: tuple[torch.Tensor, ...]
    correlations: Correlations

    @classmethod
    def draw(cls, case: Case) -> "Problem":
        batch, views = case.source().training(0, None)
        return cls(case, batch, views, model(case))

    @property
    def objective(self) -> Objective:
        return OBJECTIVES[self.case.objective]()

    @property
    def basis(self) -> Basis:
        return orthonormal_basis(self.case.layout, dtype=torch.float32)

    def seed(self, index: int) -> "Problem":
        """Return the problem of one seed alone."""
        one = slice(index, index + 1)
        cluster, latents = self.batch.cluster[one], self.batch.latents[one]
        batch = replace(self.batch, seeds=self.batch.seeds[one], cluster=cluster, latents=latents)
        views, model = tuple(view[one] for view in self.views), self.correlations.map(lambda x: x[one])
        return Problem(replace(self.case, seeds=1), batch, views, model)


def model(case: Case) -> Correlations:
    """Return a model away from Q = 0, where no two queries are alike: Φ ~ 0.3 normal, Υ ~ 0.1 normal."""
    draws = torch.Generator().manual_seed(case.patches)
    zeros = Correlations.zeros(case.layout, case.seeds, dtype=torch.float32)
    phi, upsilon = (torch.randn(block.shape, generator=draws) for block in zeros.named().values())
    return Correlations(0.3 * phi, 0.1 * upsilon)
