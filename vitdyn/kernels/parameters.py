"""The trained matrix Q of a batch of seeds, written in the basis of features and position codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value
from vitdyn.data import Basis, PatchLayout


@dataclass(frozen=True)
class Correlations:
    """The four blocks of Q, each an *attention correlation*; one leading seed axis.

    ===================  =================================  =====================================
    ``feature_position``   Φ_{p→v_{k,m}} = e_pᵀ Q v_{k,m}      (seed, query, cluster, area)
    ``position_position``  Υ_{p→q} = e_pᵀ Q e_q               (seed, query, key)
    ``content_position``   Ψ_{k,m→q} = v_{k,m}ᵀ Q e_q         (seed, cluster, area, key)
    ``content_content``    Ξ_{k,m→m'} = v_{k,m}ᵀ Q v_{k,m'}   (seed, cluster, area, area)
    ===================  =================================  =====================================

    The first two alone are a model whose queries carry their position only. Features of two clusters
    never meet in one image, so Ξ is kept within each cluster.
    """

    feature_position: Float[Tensor, "seed query cluster area"]
    position_position: Float[Tensor, "seed query key"]
    content_position: Float[Tensor, "seed cluster area key"] | None = None
    content_content: Float[Tensor, "seed cluster area area"] | None = None

    def __post_init__(self) -> None:
        if (self.content_position is None) != (self.content_content is None):
            raise invalid_value(
                "content_content", None, "content queries need both content blocks, position queries neither"
            )

    @classmethod
    def zeros(
        cls,
        layout: PatchLayout,
        seeds: int,
        *,
        content_queries: bool = False,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Correlations:
        """Return Q = 0, the start of the theory, for ``seeds`` seeds."""
        patches, clusters, areas = layout.patches, layout.clusters, layout.areas
        shapes = [(patches, clusters, areas), (patches, patches)]
        if content_queries:
            shapes += [(clusters, areas, patches), (clusters, areas, areas)]
        return cls(*(torch.zeros(seeds, *shape, dtype=dtype, device=device) for shape in shapes))

    @classmethod
    def from_matrix(
        cls, matrix: Float[Tensor, "seed feature feature"], basis: Basis, *, content_queries: bool = True
    ) -> Correlations:
        """Read the correlations off Q: Φ = e Q vᵀ, Υ = e Q eᵀ, Ψ = v Q eᵀ, Ξ = v Q vᵀ (own cluster)."""
        features, positions = basis.features.to(matrix), basis.positions.to(matrix)
        phi = torch.einsum("pd,sdf,kjf->spkj", positions, matrix, features)
        upsilon = positions @ matrix @ positions.T
        if not content_queries:
            return cls(phi, upsilon)
        psi = torch.einsum("kjd,sdf,qf->skjq", features, matrix, positions)
        xi = torch.einsum("kid,sdf,kjf->skij", features, matrix, features)
        return cls(phi, upsilon, psi, xi)

    def to_matrix(self, basis: Basis) -> Float[Tensor, "seed feature feature"]:
        """Build Q = Σ Φ e vᵀ + Σ Υ e eᵀ + Σ Ψ v eᵀ + Σ Ξ v vᵀ, the least matrix with these correlations."""
        features, positions = (part.to(self.position_position) for part in (basis.features, basis.positions))
        matrix = torch.einsum("pd,spkj,kjf->sdf", positions, self.feature_position, features)
        matrix = matrix + positions.T @ self.position_position @ positions
        if self.content_position is not None and self.content_content is not None:
            matrix = matrix + torch.einsum("kjd,skjq,qf->sdf", features, self.content_position, positions)
            matrix = matrix + torch.einsum("kid,skij,kjf->sdf", features, self.content_content, features)
        return matrix

    @property
    def content_queries(self) -> bool:
        """Whether queries carry content (Ψ and Ξ are trained too)."""
        return self.content_position is not None

    @property
    def seeds(self) -> int:
        """The number of seeds."""
        return self.position_position.shape[0]

    def named(self) -> dict[str, Tensor]:
        """Return the blocks that exist, by name."""
        return {name: block for name, block in vars(self).items() if block is not None}

    def map(self, function: Callable[..., Tensor], *others: Correlations) -> Correlations:
        """Return the results of ``function`` for each block, given with it the same block of each of ``others``."""
        # By name: a block that one of them lacks is an error here, and not a neighbour's.
        siblings = [other.named() for other in others]
        return Correlations(
            **{
                name: function(block, *(other[name] for other in siblings))
                for name, block in self.named().items()
            }
        )

    def squared_norm(self) -> Float[Tensor, " seed"]:
        """Return ‖Q‖² (Frobenius), one value per seed: the basis is orthonormal, so the blocks' squares add."""
        return torch.stack([block.square().flatten(1).sum(1) for block in self.named().values()]).sum(0)
