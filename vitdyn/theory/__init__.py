"""What should happen, from data specifications alone: the regime of a layout and the predictions for it."""

from vitdyn.theory.predictions import (
    Prediction,
    contrastive_level,
    global_query_level,
    own_area_level,
    phase_one_level,
    reconstruction_infimum,
)
from vitdyn.theory.regime import Regime

__all__ = [
    "Prediction",
    "Regime",
    "contrastive_level",
    "global_query_level",
    "own_area_level",
    "phase_one_level",
    "reconstruction_infimum",
]
