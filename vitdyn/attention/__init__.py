"""One softmax-attention layer on patch data: its correlations and the attention they give to areas."""

from vitdyn.attention.area import area_attention, mean_area_attention
from vitdyn.attention.correlations import Correlations
from vitdyn.attention.dense import attend, dense_area_attention, dense_attention
from vitdyn.attention.factored import (
    Saved,
    engine_name,
    factored_forward,
    factored_pullback,
    pooled_forward,
    pools,
    residual_gradient,
    seeds_apart,
)
from vitdyn.attention.workspace import Workspace

__all__ = [
    "Correlations",
    "Saved",
    "Workspace",
    "area_attention",
    "attend",
    "dense_area_attention",
    "dense_attention",
    "engine_name",
    "factored_forward",
    "factored_pullback",
    "mean_area_attention",
    "pooled_forward",
    "pools",
    "residual_gradient",
    "seeds_apart",
]
