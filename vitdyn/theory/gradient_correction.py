"""RC-MAE's second term where student and teacher are linear: what it takes back, how much it slows, how it calms.

Derived in ``theory.derivations.gradient_correction``.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from vitdyn._errors import as_array, as_numbers, invalid_value, require_choice, require_real

ORDERS = ("after", "before")
"""When the teacher moves: towards the student after its step, as in the released code, or before it."""


def discounts(momenta: Float[np.ndarray, " step"], *, order: str = "after") -> Float[np.ndarray, " step"]:
    """Return w_j of S_t − T_t = −η Σ_j w_j G_j after t steps from S_0 = T_0, α_j being the momentum in step j.

    w_j = Π_{s=j}^{t−1} α_s, and from j + 1 on where the teacher moves towards the student "before" its step: with one
    momentum α^i and α^{i−1} for the gradient i steps back.

    >>> discounts([0.5, 0.9, 0.9])
    array([0.405, 0.81 , 0.9  ])
    """
    require_choice("order", order, ORDERS)
    kept = as_numbers("momenta", momenta)
    if not (np.isfinite(kept).all() and (kept >= 0).all() and (kept <= 1).all()):
        raise invalid_value("momenta", kept.tolist(), "must lie in [0, 1]")
    from_here = np.cumprod(kept[::-1])[::-1]
    return from_here if order == "after" else np.append(from_here, 1.0)[1:]


def linear_correction(
    residuals: Float[np.ndarray, "step output"],
    inputs: Float[np.ndarray, "step input"],
    weights: Float[np.ndarray, " step"],
    now: Float[np.ndarray, " input"],
    *,
    learning_rate: float,
) -> Float[np.ndarray, "output input"]:
    """Return ∇_S ½‖(S − sg T) x‖² = −η Σ_j w_j ⟨x_j, x⟩ r_j xᵀ at x = ``now``, past gradients being r_j x_jᵀ.

    ``weights`` are the w_j of ``discounts``. What the past says counts as far as its inputs are like the present one.
    """
    require_real("learning_rate", learning_rate, low=0.0, high=1e6)
    table, seen = _table("residuals", residuals), _table("inputs", inputs)
    kept, present = as_numbers("weights", weights), as_numbers("now", now)
    for field, found, wanted in (
        ("inputs", seen.shape, (len(table), len(present))),
        ("weights", kept.shape, (len(table),)),
    ):
        if found != wanted:
            raise invalid_value(field, found, f"must have the shape {wanted}, as residuals and now have it")
    return -learning_rate * np.outer((kept * (seen @ present)) @ table, present)


def error_factor(step: float, momentum: float, weight: float = 1.0) -> float:
    """Return by what the error along an eigenvector of curvature λ shrinks in a step of RC-MAE, ``step`` = ηλ = h.

    The larger |root| of x² − (1 − h + α − αhγ)x + α(1 − h − hγ), α = ``momentum``, γ = ``weight``. It is above |1 − h|,
    reconstruction's own, for all h, α and γ above 0: the correction brakes.

    >>> round(error_factor(0.1, momentum=0.99), 3)  # alone it would be 0.9
    0.995
    """
    require_real("step", step, low=0.0, high=1e6)
    _require(momentum, weight)
    trace = 1 - step + momentum * (1 - step * weight)
    product = momentum * (1 - step - step * weight)
    # real roots: the polynomial is negative at 1 − h
    root = np.sqrt(max(trace**2 / 4 - product, 0.0))
    return float(max(abs(trace / 2 + root), abs(trace / 2 - root)))


def largest_stable_step(momentum: float, weight: float = 1.0) -> float:
    """Return the h = ηλ beyond which the error grows, 2(1 + α)/(1 + α + 2αγ); reconstruction alone has 2."""
    _require(momentum, weight)
    return 2 * (1 + momentum) / (1 + momentum + 2 * momentum * weight)


def noise_ratio(step: float, momentum: float, weight: float = 1.0) -> float:
    """Return the stationary variance of the student under gradients with white noise, over reconstruction's own.

    Along an eigenvector with h = ηλ = ``step``, below ``largest_stable_step``. 1/(1 + γ) where 1 − α ≪ h ≪ 1, 1 where
    the teacher is fast, h ≪ 1 − α.
    """
    _require(momentum, weight)
    require_real(
        "step", step, low=0.0, high=largest_stable_step(momentum, weight), open_low=True, open_high=True
    )
    a, g, h = momentum, weight, step
    above = (2 - h) * (1 - a**2 + a * h * (1 + a - g + a * g))
    return above / ((1 - a + a * h * (1 + g)) * (2 + 2 * a - h - a * h - 2 * a * g * h))


def _require(momentum: float, weight: float) -> None:
    require_real("momentum", momentum, low=0.0, high=1.0)
    require_real("weight", weight, low=0.0, high=1e6)


def _table(field: str, value: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
    array = as_array(field, value)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise invalid_value(field, value, "must be real numbers in rows of one length")
    return array.astype(np.float64, copy=False)
