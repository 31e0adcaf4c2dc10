"""Pure functions of arrays: what attention and representations are measured by.

Arrays in (torch tensors, numpy arrays, nested lists of numbers), torch tensors out, in float64, over any leading axes.
Each returns a value with the convention it used. What is not finite is refused by name (:mod:`vitdyn.metrics.arrays`).

>>> round(float(vd.metrics.participation_ratio([[1, 0], [0, 1], [1, 1]]).value), 2)
1.6
"""

from vitdyn.metrics.agreement import agreement_interval, rank_agreement
from vitdyn.metrics.attention import (
    attention_distance,
    attention_entropy,
    grid_positions,
    head_deviation,
    mutual_information,
    position_deviation,
    top_key_concentration,
    top_key_scores,
)
from vitdyn.metrics.by_depth import attention_by_depth, representations_by_depth
from vitdyn.metrics.clusters import clid, cluster_learnability, intrinsic_dimension, k_means
from vitdyn.metrics.geometry import alignment, uniformity
from vitdyn.metrics.lidar import lidar
from vitdyn.metrics.measured import Measured
from vitdyn.metrics.neighbours import nearest, neighbour_accuracy
from vitdyn.metrics.probe import (
    LinearMap,
    fit_logistic,
    fit_ridge,
    logistic_probe,
    ridge_probe,
    ridge_r_squared,
)
from vitdyn.metrics.rank import ne_sum, participation_ratio, rank_me, spectral_decay
from vitdyn.metrics.similarity import cka, homogeneity
from vitdyn.metrics.spectra import (
    diagonal_frequencies,
    feature_map_variance,
    fourier_log_amplitude,
    singular_value_spectrum,
)

__all__ = [
    "LinearMap",
    "Measured",
    "agreement_interval",
    "alignment",
    "attention_by_depth",
    "attention_distance",
    "attention_entropy",
    "cka",
    "clid",
    "cluster_learnability",
    "diagonal_frequencies",
    "feature_map_variance",
    "fit_logistic",
    "fit_ridge",
    "fourier_log_amplitude",
    "grid_positions",
    "head_deviation",
    "homogeneity",
    "intrinsic_dimension",
    "k_means",
    "lidar",
    "logistic_probe",
    "mutual_information",
    "ne_sum",
    "nearest",
    "neighbour_accuracy",
    "participation_ratio",
    "position_deviation",
    "rank_agreement",
    "rank_me",
    "representations_by_depth",
    "ridge_probe",
    "ridge_r_squared",
    "singular_value_spectrum",
    "spectral_decay",
    "top_key_concentration",
    "top_key_scores",
    "uniformity",
]  # fmt: skip
