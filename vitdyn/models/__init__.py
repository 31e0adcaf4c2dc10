"""The theory's layer: its parameters, and the attention that it gives to areas."""

from vitdyn.kernels import Correlations
from vitdyn.models.layer import area_attention, mean_area_attention
from vitdyn.models.reference import dense_area_attention

__all__ = [
    "Correlations",
    "area_attention",
    "dense_area_attention",
    "mean_area_attention",
]
