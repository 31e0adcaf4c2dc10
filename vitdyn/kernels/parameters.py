"""What is trained: named tensors with an axis of seeds; of the theory's layer the matrix Q in the basis of features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value, require_kind
from vitdyn.data import Basis, PatchLayout


class Parameters:
    """What is trained: named tensors, each with a leading axis of seeds, as attributes.

    ``feature_count`` is F, the number of coordinates of the outputs that objectives read; a run sets it.

    >>> import torch
    >>> parameters = vd.Parameters(query=torch.zeros(2, 3, 3), scale=torch.ones(2))
    >>> parameters.map(torch.neg).scale
    tensor([-1., -1.])
    """

    def __init__(self, *, feature_count: int | None = None, **blocks: Tensor) -> None:
        for name, block in blocks.items():
            if hasattr(Parameters, name):
                raise invalid_value(
                    f"Parameters.{name}", name, "is what all parameters have: take another name"
                )
            if not isinstance(block, Tensor):
                words = "must be a tensor with an axis of seeds first"
                raise invalid_value(f"Parameters.{name}", block, words)
        vars(self).update(blocks, _feature_count=feature_count)

    def __getattr__(self, name: str) -> Tensor:
        raise AttributeError(f"{name!r} is no part of these parameters, which are {', '.join(self.named())}")

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}={tuple(block.shape)}" for name, block in self.named().items())
        return f"{type(self).__name__}({shapes})"

    @property
    def feature_count(self) -> int:
        """F, the number of coordinates of the outputs."""
        found = vars(self).get("_feature_count")
        if found is None:
            raise invalid_value(
                "Parameters.feature_count", None, "is that of a run: give it when you make them"
            )
        return int(found)

    @property
    def like(self) -> Tensor:
        """A tensor to read precision and device off."""
        return next(iter(self.named().values()))

    @property
    def seeds(self) -> int:
        """The number of seeds."""
        return len(self.like)

    def named(self) -> dict[str, Tensor]:
        """Return the tensors by name."""
        return {name: block for name, block in vars(self).items() if isinstance(block, Tensor)}

    def rebuilt(self, blocks: Mapping[str, Tensor]) -> Self:
        """Return parameters of the same kind made of other tensors."""
        return type(self)(**blocks, feature_count=vars(self).get("_feature_count"))

    def map(self, function: Callable[..., Tensor], *others: Parameters) -> Self:
        """Return the results of ``function`` for each tensor, given with it the same one of each of ``others``."""
        # By name: a block that one of them lacks is an error here, and not a neighbour's.
        siblings = [other.named() for other in others]
        return self.rebuilt(
            {
                name: function(block, *(other[name] for other in siblings))
                for name, block in self.named().items()
            }
        )

    def squared_norm(self) -> Float[Tensor, " seed"]:
        """Return the sum of all squares, one value for each seed; for Q it is ‖Q‖², the basis being orthonormal."""
        return torch.stack([block.square().flatten(1).sum(1) for block in self.named().values()]).sum(0)


@dataclass(frozen=True, repr=False)
class Correlations(Parameters):
    """The four blocks of Q, each an *attention correlation*; one leading seed axis.

        ``feature_position``   Φ_{p→v_{k,m}} = e_pᵀ Q v_{k,m}     (seed, query, cluster, area)
        ``position_position``  Υ_{p→q} = e_pᵀ Q e_q              (seed, query, key)
        ``content_position``   Ψ_{k,m→q} = v_{k,m}ᵀ Q e_q        (seed, cluster, area, key)
        ``content_content``    Ξ_{k,m→m'} = v_{k,m}ᵀ Q v_{k,m'}  (seed, cluster, area, area)

    The first two alone are a model whose queries carry their position only. Features of two clusters
    never meet in one image, so Ξ is kept within each cluster.

    >>> layout = vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5)
    >>> vd.Correlations.zeros(layout, seeds=2)
    Correlations(feature_position=(2, 16, 1, 3), position_position=(2, 16, 16))
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
    def of(cls, parameters: Parameters) -> Correlations:
        """Return the blocks of Q among a model's parameters. Raises ``ValueError`` where Φ or Υ is not there."""
        if isinstance(parameters, Correlations):
            return parameters
        require_kind("correlations", parameters, Parameters)
        named, names = parameters.named(), [each.name for each in fields(cls)]
        if lacks := [name for name in names[:2] if name not in named]:
            raise invalid_value("parameters", parameters, f"must have {' and '.join(lacks)}, blocks of Q")
        return cls(**{name: named[name] for name in names if name in named})

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
    def like(self) -> Tensor:
        """Υ."""
        return self.position_position

    @property
    def feature_count(self) -> int:
        """K · N: outputs are sums of features."""
        return self.feature_position.shape[2] * self.feature_position.shape[3]

    def named(self) -> dict[str, Tensor]:
        """Return the blocks that exist, by name."""
        return {name: block for name, block in vars(self).items() if block is not None}

    def rebuilt(self, blocks: Mapping[str, Tensor]) -> Correlations:
        """Return correlations made of other blocks."""
        return Correlations(**blocks)


def as_parameters(blocks: Mapping[str, Tensor], feature_count: int | None = None) -> Parameters:
    """Return parameters of these names: ``Correlations`` where they are the blocks of one Q, as kernels need them."""
    named = (
        {"feature_position", "position_position"}
        <= blocks.keys()
        <= {each.name for each in fields(Correlations)}
    )
    # those of several layers and heads may have the same names, and more axes
    if named and blocks["position_position"].ndim == 3:
        return Correlations(**blocks)
    return Parameters(**blocks, feature_count=feature_count)
