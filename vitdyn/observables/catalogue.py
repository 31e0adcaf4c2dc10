"""Everything that a run can record: each quantity with its axes after ``frame``, its symbol and its meaning."""

from __future__ import annotations

from typing import NamedTuple

from vitdyn._axes import AREA, CLUSTER, KEY_AREA, QUERY_AREA, SEED, STATISTIC


class Observable(NamedTuple):
    """A recorded quantity: its axes after ``frame``, its symbol, and what it is."""

    axes: tuple[str, ...]
    symbol: str
    meaning: str


_BY_PAIR = (SEED, CLUSTER, QUERY_AREA, KEY_AREA, STATISTIC)
_BY_QUERY = (SEED, CLUSTER, QUERY_AREA, STATISTIC)

METRICS: dict[str, Observable] = {
    "attention_distance": Observable((SEED,), "d", "mean distance between query and key, in patches"),
    "mutual_information": Observable((SEED,), "NMI", "normalised mutual information of query and key"),
    "attention_entropy": Observable((SEED,), "H", "mean entropy of a query's attention, in nats"),
    "token_similarity": Observable((SEED,), "cos", "mean cosine of F_p and F_q, p ≠ q, of one image"),
    "high_frequency": Observable(
        (SEED,), "Δ log amp", "log amplitude of F_p at the highest frequency of the grid less that at 0"
    ),
    "lidar": Observable((SEED,), "LiDAR", "effective number of directions that separate images, not masks"),
    "rank_me": Observable((SEED,), "RankMe", "effective rank of the representations of all views"),
    "local_determination": Observable(
        (SEED,), "R²_local", "what a linear map of F tells of the latent of a local area, mean over areas"
    ),
    "global_determination": Observable(
        (SEED,), "R²_global", "what a linear map of F tells of the latent of the global area"
    ),
}
"""What a run records only if its ``Metrics`` name it."""

OBSERVABLES: dict[str, Observable] = {
    "feature_position": Observable(_BY_PAIR, "Φ", "feature-position correlation, over query positions"),
    "position_position": Observable(
        _BY_PAIR, "Υ", "position-position correlation, over pairs of distinct positions"
    ),
    "position_position_self": Observable(_BY_QUERY, "Υ_self", "correlation of a position with itself"),
    "content_position": Observable(
        (SEED, CLUSTER, AREA, KEY_AREA, STATISTIC), "Ψ", "query feature, key position"
    ),
    "content_content": Observable((SEED, CLUSTER, AREA, KEY_AREA), "Ξ", "query feature, key feature"),
    "area_attention": Observable(
        _BY_PAIR,
        "A",
        "attention to the visible patches of an area: each query's mean over samples, then over queries",
    ),
    "own_area_attention": Observable(
        _BY_QUERY, "A_own", "attention to the query's own area, over samples that show some of it"
    ),
    "reconstruction_error": Observable(
        (SEED, CLUSTER, QUERY_AREA), "½‖F_p − X_p‖²", "mean error of a masked patch, by its area"
    ),
    "loss": Observable((SEED,), "L", "the objective with its weight decay"),
    "excess_loss": Observable((SEED,), "L − L_min", "loss above its lower bound on the same batch"),
    "attention_diversity": Observable(
        (SEED,), "D", "mean of the ten largest key scores of an attention map; lower is more diverse"
    ),
    **METRICS,
}
