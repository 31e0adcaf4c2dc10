"""Feature space in the open: orthonormal features and position codes as vectors of R^d."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value, require_integer, require_kind
from vitdyn.data.layout import PatchLayout
from vitdyn.seeds import stream


def require_real_type(field: str, dtype: object) -> None:
    """Raise ``ValueError`` unless ``dtype`` is a floating-point type of torch: whole numbers would cut latents off."""
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise invalid_value(field, dtype, "must be a floating-point type: torch.float32 or torch.float64")


@dataclass(frozen=True)
class Basis:
    """Orthonormal features v_{k,j} and position codes e_p of one model, all in R^d.

    ``features``: (cluster, area, feature); ``positions``: (patch, feature). Rows of areas that a cluster
    does not have are 0.
    """

    features: Float[Tensor, "cluster area feature"]
    positions: Float[Tensor, "patch feature"]

    @property
    def dimension(self) -> int:
        """The dimension d of feature space."""
        return self.positions.shape[-1]


def orthonormal_basis(
    layout: PatchLayout,
    *,
    dimension: int | None = None,
    seed: int | None = None,
    dtype: torch.dtype = torch.float64,
) -> Basis:
    """Return features and position codes, all orthonormal, in R^d with d ≥ Σ_k N_k + P.

    Without a seed they are coordinate vectors (features first, then positions; d as small as it can be
    unless asked); with one, a random orthonormal set.

    >>> layout = vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5)
    >>> batch = vd.PatchGenerator(layout=layout).sample(4, seeds=[0])
    >>> batch.patches(vd.orthonormal_basis(layout)).shape  # (seed, sample, patch, feature)
    torch.Size([1, 4, 16, 19])
    """
    require_kind("layout", layout, PatchLayout)
    exists = torch.from_numpy(layout.sizes > 0)
    count = int(exists.sum())
    least = count + layout.patches
    size = least if dimension is None else dimension
    require_integer("dimension", size, at_least=1)
    require_real_type("dtype", dtype)
    if size < least:
        raise invalid_value(
            "dimension", size, f"{count} features and {layout.patches} positions need {least} or more"
        )
    rows = orthonormal_rows(least, size, seed).to(dtype)
    features = torch.zeros(*layout.sizes.shape, size, dtype=dtype)
    features[exists] = rows[:count]
    return Basis(features, rows[count:])


def orthonormal_rows(count: int, size: int, seed: int | None) -> Float[Tensor, "row feature"]:
    """Return coordinate vectors, or, with a seed, a random set of orthonormal rows."""
    if seed is None:
        return torch.eye(count, size, dtype=torch.float64)
    # the signs of R's diagonal make the set uniform (Haar), which a bare QR is not
    normal = stream(seed, "basis").standard_normal((size, count))
    orthogonal, triangular = np.linalg.qr(normal)
    return torch.from_numpy((orthogonal * np.sign(np.diag(triangular))).T.copy())
