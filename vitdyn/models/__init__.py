"""What is trained: the theory's layer, written fast, and models beyond it behind the same four methods."""

from vitdyn._registry import Registry
from vitdyn.kernels import Correlations, Parameters, as_parameters
from vitdyn.models.layer import area_attention, mean_area_attention
from vitdyn.models.model import Model, area_attention_of
from vitdyn.models.one_layer import LAYER, OneLayer
from vitdyn.models.reference import dense_area_attention
from vitdyn.models.transformer import Transformer

MODELS = Registry(
    "model",
    lambda kind: isinstance(kind, type) and issubclass(kind, Model),
    {"one-layer": OneLayer, "transformer": Transformer},
)

__all__ = [
    "LAYER",
    "MODELS",
    "Correlations",
    "Model",
    "OneLayer",
    "Parameters",
    "Transformer",
    "area_attention",
    "area_attention_of",
    "as_parameters",
    "dense_area_attention",
    "mean_area_attention",
]
