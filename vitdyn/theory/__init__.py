"""What should happen, from data specifications alone: the regime of a layout and the predictions for it.

``vitdyn.theory.derivations`` derives them symbolically; it needs sympy and is not loaded from here.

>>> vd.theory.local_area_time(vd.theory.Regime(patches=1e16, kappa_c=0.9, kappa_s=0.3)).exponent
0.7
"""

from vitdyn.theory.area_drives import (
    competitor_gap,
    contrast_drives,
    discriminating_size_ratio,
    reconstruction_drives,
)
from vitdyn.theory.contrast_scale import contrast_scale_limit, contrast_scale_time, contrast_value_at
from vitdyn.theory.cosine import critical_clusters, own_cluster_share, repulsion_threshold
from vitdyn.theory.curvature import (
    Curvature,
    curvature_after,
    own_area_curvature,
    start_curvatures,
)
from vitdyn.theory.depth import contrast_rises, depth_drives, layer_share
from vitdyn.theory.gradient_correction import (
    discounts,
    error_factor,
    largest_stable_step,
    linear_correction,
    noise_ratio,
)
from vitdyn.theory.heads import (
    disorder_size,
    head_difference_growth,
    head_difference_rates,
    head_invariant,
    one_head_twin,
    parting_size,
)
from vitdyn.theory.hessian import (
    RowCorrelations,
    contrastive_hessian,
    reconstruction_hessian,
    reconstruction_hessian_at,
)
from vitdyn.theory.masked_prediction import (
    class_temperature,
    frozen_teacher_attention,
    lead_of_loss,
    student_pace,
)
from vitdyn.theory.perturbed_data import (
    coherence_levels,
    noise_detection_limit,
    noise_levels,
    noisy_attention,
    start_drives,
)
from vitdyn.theory.predictions import (
    Prediction,
    collapse_loss,
    collapse_threshold,
    contrastive_level,
    global_query_level,
    mixture_threshold,
    own_area_level,
    phase_one_level,
    position_correlation_ratio,
    reconstruction_infimum,
    take_over_level,
)
from vitdyn.theory.rates import (
    Phase,
    Rate,
    contrastive_time,
    first_lead,
    global_area_time,
    local_area_time,
    local_area_time_bound,
    lost_correlation_exponent,
    phase_one_start,
    phases,
    position_correlation_exponent,
    tail_exponent,
)
from vitdyn.theory.regime import Regime
from vitdyn.theory.row_hessian import SymmetryClass
from vitdyn.theory.self_distillation import centre_threshold, uniform_threshold
from vitdyn.theory.spectrum import areas_log_amplitude
from vitdyn.theory.values import uniform_values, value_moments, value_start_rates

__all__ = [
    "Curvature", "Phase", "Prediction", "Rate", "Regime", "RowCorrelations", "SymmetryClass",
    "areas_log_amplitude", "centre_threshold", "class_temperature", "coherence_levels", "collapse_loss",
    "collapse_threshold", "competitor_gap", "contrast_drives", "contrast_rises", "contrast_scale_limit",
    "contrast_scale_time", "contrast_value_at", "contrastive_hessian", "contrastive_level",
    "contrastive_time", "critical_clusters", "curvature_after", "depth_drives", "discounts",
    "discriminating_size_ratio", "disorder_size", "error_factor", "first_lead", "frozen_teacher_attention",
    "global_area_time", "global_query_level", "head_difference_growth", "head_difference_rates",
    "head_invariant", "largest_stable_step", "layer_share", "lead_of_loss", "linear_correction",
    "local_area_time", "local_area_time_bound", "lost_correlation_exponent", "mixture_threshold",
    "noise_detection_limit", "noise_levels", "noise_ratio", "noisy_attention", "one_head_twin",
    "own_area_curvature", "own_area_level", "own_cluster_share", "parting_size", "phase_one_level",
    "phase_one_start", "phases", "position_correlation_exponent", "position_correlation_ratio",
    "reconstruction_drives", "reconstruction_hessian", "reconstruction_hessian_at",
    "reconstruction_infimum", "repulsion_threshold", "start_curvatures", "start_drives", "student_pace",
    "tail_exponent", "take_over_level", "uniform_threshold", "uniform_values", "value_moments",
    "value_start_rates",
]  # fmt: skip
