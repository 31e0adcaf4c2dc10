"""RC-MAE's second term for a linear student S and its teacher T: past gradients, discounted and weighted by inputs.

    S_{t+1} = S_t − η G_t,   T_{t+1} = α_t T_t + (1 − α_t) S_{t+1}  ("after" the step),  or S_t  ("before" it)
    ∇_S ½‖S x − sg T x‖² = (S − T) x xᵀ

Entries of S, T and G obey the same recursion, so that one stands for all.
"""

from __future__ import annotations

import sympy as sp

from vitdyn.theory.derivations.model import vanishes

RATE, MOMENTUM, WEIGHT, STEP = sp.symbols("eta alpha gamma h", positive=True)
ROOT = sp.Symbol("lambda")


def lag_after(steps: int, order: str) -> tuple[sp.Expr, list[sp.Symbol], list[sp.Symbol]]:
    """Return S_t − T_t after so many literal steps from S_0 = T_0, with the G_j and α_j that it is a function of."""
    gradients, momenta = sp.symbols(f"G_0:{steps}"), sp.symbols(f"alpha_0:{steps}")
    student = teacher = sp.Symbol("S_0")
    for gradient, momentum in zip(gradients, momenta, strict=True):
        before, student = student, student - RATE * gradient
        teacher = momentum * teacher + (1 - momentum) * (student if order == "after" else before)
    return sp.expand(student - teacher), list(gradients), list(momenta)


def lag_holds(steps: int = 5) -> bool:
    """Prove S_t − T_t = −η Σ_j (Π_s α_s) G_j over s from j, or from j + 1 with the student before the step."""
    for order, first in (("after", 0), ("before", 1)):
        found, gradients, momenta = lag_after(steps, order)
        past = sum(sp.prod(momenta[j + first :]) * gradient for j, gradient in enumerate(gradients))
        if not vanishes(found + RATE * past):
            return False
    return True


def correction_holds(outputs: int = 2, inputs: int = 3, steps: int = 2) -> bool:
    """Prove ∇L_c = −η Σ_i α^i ⟨x_{t−i}, x_t⟩ r_{t−i} x_tᵀ for gradients G_j = r_j x_jᵀ and one momentum."""
    student = sp.Matrix(outputs, inputs, lambda row, column: sp.Symbol(f"S_{row}{column}"))
    now = sp.Matrix(sp.symbols(f"x_0:{inputs}"))
    lag, weighted = sp.zeros(outputs, inputs), sp.zeros(outputs, inputs)
    for back in range(1, steps + 1):
        residual, seen = (
            sp.Matrix(sp.symbols(f"r{back}_0:{outputs}")),
            sp.Matrix(sp.symbols(f"x{back}_0:{inputs}")),
        )
        lag -= RATE * MOMENTUM**back * residual * seen.T
        weighted -= RATE * MOMENTUM**back * seen.dot(now) * residual * now.T
    # the teacher takes no gradient: it is a number, here S − lag of symbols that are put in afterwards
    kept = sp.Matrix(outputs, inputs, lambda row, column: sp.Symbol(f"T_{row}{column}"))
    loss = ((student - kept) * now).dot((student - kept) * now) / 2
    slope = sp.Matrix(outputs, inputs, lambda row, column: sp.diff(loss, student[row, column]))
    behind = {kept[at]: student[at] - lag[at] for at in range(outputs * inputs)}
    return all(vanishes(each) for each in slope.subs(behind) - weighted)


def error_map() -> sp.Matrix:
    """Return the map of (S − S*, S − T) along an eigenvector of the inputs' second moment λ, h = ηλ, over a step."""
    moved = sp.Matrix([[1 - STEP, -STEP * WEIGHT]])  # of S − S*, by the gradient λ(S − S* + γ(S − T))
    return moved.col_join(MOMENTUM * (moved - sp.Matrix([[1, 0]]) + sp.Matrix([[0, 1]])))


def braking_holds() -> bool:
    """Prove that the characteristic polynomial is −αγh² at 1 − h: one root lies beyond it on either side.

    So both are real, and the slower is slower than |1 − h|, that of reconstruction alone, whatever h, α and γ.
    """
    return vanishes(error_map().charpoly(ROOT).as_expr().subs(ROOT, 1 - STEP) + MOMENTUM * WEIGHT * STEP**2)


def largest_stable_step() -> sp.Expr:
    """Return the largest h = ηλ at which the error does not grow, where the smaller root passes −1."""
    (found,) = sp.solve(error_map().charpoly(ROOT).as_expr().subs(ROOT, -1), STEP)
    return sp.factor(found)


def noise_ratio() -> sp.Expr:
    """Return the stationary variance of S under gradients with white noise, over that of reconstruction alone."""
    a, b, c = sp.symbols("a b c")
    moments, hit = sp.Matrix([[a, b], [b, c]]), sp.Matrix([1, MOMENTUM])
    change = error_map() * moments * error_map().T + hit * hit.T - moments
    variance = sp.solve([change[0, 0], change[0, 1], change[1, 1]], [a, b, c])[a]
    return sp.factor(variance * STEP * (2 - STEP))
