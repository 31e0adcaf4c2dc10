"""Judgement: each claim of the theory as a check that can fail, with a control that must fail it."""

from vitdyn._registry import Registry
from vitdyn.claims.check import check, contradicted, counts, judge, overall, passes
from vitdyn.claims.claim import (
    INCONCLUSIVE,
    REFUTED,
    SUPPORTED,
    VERDICT_COLUMNS,
    Assumption,
    Case,
    Claim,
    Control,
    Measurement,
    Verdict,
    moved,
)
from vitdyn.claims.clusters import CLUSTERS_LEFT, CLUSTERS_LOCAL, CLUSTERS_START
from vitdyn.claims.contrast import CL_LOCAL_LOST, CL_LOSS, CL_TIME, HYBRID_THRESHOLD
from vitdyn.claims.cosine import COSINE_GAP, COSINE_SPREAD, COSINE_THRESHOLD
from vitdyn.claims.decorrelation import BARLOW_SCALE
from vitdyn.claims.depth import DEPTH_AREA, DEPTH_FIRST, DEPTH_GLOBAL, DEPTH_ORDER
from vitdyn.claims.finite_size import CL_SYMMETRY, SYMMETRY
from vitdyn.claims.gradient_correction import RCMAE_CORRECTION
from vitdyn.claims.heads import HEADS_AREA, HEADS_COPY, HEADS_GLOBAL, HEADS_PART
from vitdyn.claims.judgement import over_seeds
from vitdyn.claims.landscape import LANDSCAPE_MAE_SMOOTHER, LANDSCAPE_TEACHER_CONVEX
from vitdyn.claims.layer_curvature import HESSIAN_CLOCK, HESSIAN_START, HESSIAN_TURN
from vitdyn.claims.limits import CL_GLOBAL, MAE_AREA
from vitdyn.claims.masked_prediction import (
    BEIT_TEMPERATURE,
    D2V_TEACHER,
    MIM_ORDER,
    RCMAE_FROZEN,
    SELF_TARGETS,
)
from vitdyn.claims.perturbed import COHERENCE_TURN, NOISE_START
from vitdyn.claims.phases import MAE_ORDER, MAE_PHASE_ONE, MAE_PHASES
from vitdyn.claims.reconstruction import (
    MAE_GLOBAL_TIME,
    MAE_LOSS,
    MAE_PP,
    MAE_TAIL,
    MAE_TIME,
    MAE_TIME_BOUND,
)
from vitdyn.claims.reduction import REDUCTION, REDUCTION_LIMIT
from vitdyn.claims.representations import (
    LIDAR_ORDER,
    PARK_DISTANCE,
    PARK_FREQUENCY,
    PARK_HOMOGENEITY,
    PARK_MIXTURE,
)
from vitdyn.claims.self_distillation import DINO_CENTRE, DINO_UNIFORM, IBOT_LOCAL
from vitdyn.claims.sizes import SIZES_AREA, SIZES_LARGEST, SIZES_LEAD
from vitdyn.claims.values import VALUES_AREA, VALUES_FIRST, VALUES_SPREAD

CLAIMS: tuple[Claim, ...] = (
    MAE_AREA,
    MAE_LOSS,
    MAE_ORDER,
    MAE_PHASE_ONE,
    MAE_PHASES,
    MAE_TIME,
    MAE_TIME_BOUND,
    MAE_GLOBAL_TIME,
    MAE_TAIL,
    MAE_PP,
    CL_GLOBAL,
    CL_TIME,
    CL_LOSS,
    CL_LOCAL_LOST,
    SYMMETRY,
    CL_SYMMETRY,
    REDUCTION,
    REDUCTION_LIMIT,
    HYBRID_THRESHOLD,
    COSINE_THRESHOLD,
    COSINE_GAP,
    COSINE_SPREAD,
    BARLOW_SCALE,
    MIM_ORDER,
    BEIT_TEMPERATURE,
    RCMAE_FROZEN,
    RCMAE_CORRECTION,
    SELF_TARGETS,
    D2V_TEACHER,
    DINO_CENTRE,
    DINO_UNIFORM,
    IBOT_LOCAL,
    HESSIAN_START,
    HESSIAN_TURN,
    HESSIAN_CLOCK,
    PARK_DISTANCE,
    PARK_HOMOGENEITY,
    PARK_FREQUENCY,
    PARK_MIXTURE,
    LIDAR_ORDER,
    LANDSCAPE_MAE_SMOOTHER,
    LANDSCAPE_TEACHER_CONVEX,
    HEADS_AREA,
    HEADS_GLOBAL,
    HEADS_COPY,
    HEADS_PART,
    VALUES_AREA,
    VALUES_SPREAD,
    VALUES_FIRST,
    DEPTH_AREA,
    DEPTH_GLOBAL,
    DEPTH_ORDER,
    DEPTH_FIRST,
    SIZES_LARGEST,
    SIZES_AREA,
    SIZES_LEAD,
    CLUSTERS_LOCAL,
    CLUSTERS_LEFT,
    CLUSTERS_START,
    NOISE_START,
    COHERENCE_TURN,
)
"""All claims, in the order in which they are reported."""

CLAIMS_BY_ID = Registry(
    "claim", lambda entry: isinstance(entry, Claim), {claim.id: claim for claim in CLAIMS}
)
"""The same by id, and after them those that were registered."""

__all__ = [
    "CLAIMS",
    "CLAIMS_BY_ID",
    "CL_GLOBAL",
    "INCONCLUSIVE",
    "MAE_AREA",
    "REFUTED",
    "SUPPORTED",
    "VERDICT_COLUMNS",
    "Assumption",
    "Case",
    "Claim",
    "Control",
    "Measurement",
    "Verdict",
    "check",
    "contradicted",
    "counts",
    "judge",
    "moved",
    "over_seeds",
    "overall",
    "passes",
]
