"""The data model: which patch lies in which area, how strong each area is, which patches are visible.

Importable on its own: nothing here knows attention, training or any theory of them.
"""

from vitdyn.data.basis import Basis, orthonormal_basis
from vitdyn.data.exponents import information_gap
from vitdyn.data.features import Features, shared_features
from vitdyn.data.generator import PatchGenerator
from vitdyn.data.latents import (
    DISTRIBUTIONS,
    Beta,
    Constant,
    Custom,
    Distribution,
    TruncatedNormal,
    TwoPoint,
    Uniform,
)
from vitdyn.data.layout import PatchLayout
from vitdyn.data.patches import PatchBatch
from vitdyn.data.sizes import AreaSizes

__all__ = [
    "DISTRIBUTIONS",
    "AreaSizes",
    "Basis",
    "Beta",
    "Constant",
    "Custom",
    "Distribution",
    "Features",
    "PatchBatch",
    "PatchGenerator",
    "PatchLayout",
    "TruncatedNormal",
    "TwoPoint",
    "Uniform",
    "information_gap",
    "orthonormal_basis",
    "shared_features",
]
