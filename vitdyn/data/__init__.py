"""The data model: which patch lies in which area, how strong each area is, which patches are visible.

Importable on its own: nothing here knows attention, training or any theory of them.
"""

from vitdyn.data.latents import LAWS, Beta, Constant, Custom, Law, TruncatedNormal, TwoPoint, Uniform
from vitdyn.data.layout import PatchLayout, information_gap
from vitdyn.data.masking import draw_view_pair, draw_visible, masked_count
from vitdyn.data.patches import Basis, PatchBatch, PatchGenerator, orthonormal_basis
from vitdyn.data.sizes import AreaSizes

__all__ = [
    "LAWS",
    "AreaSizes",
    "Basis",
    "Beta",
    "Constant",
    "Custom",
    "Law",
    "PatchBatch",
    "PatchGenerator",
    "PatchLayout",
    "TruncatedNormal",
    "TwoPoint",
    "Uniform",
    "draw_view_pair",
    "draw_visible",
    "information_gap",
    "masked_count",
    "orthonormal_basis",
]
