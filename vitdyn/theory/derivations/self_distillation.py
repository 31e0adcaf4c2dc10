"""Self-distillation with a centre: the pull on a student's logits, by differentiating DINO's cross-entropy.

    L = −Σ_i P̄_i log P_i,   P = softmax(f/τ_s),   P̄ = softmax((g − c)/τ_t),   f_i = ε z_i x_i e^{z_i φ_i}

x are the visible counts of the student's view over their mean, y those of the teacher's, independent of x; g_i = ε z_i
y_i takes no gradient. c is the mean of g.
"""

from __future__ import annotations

import sympy as sp

from vitdyn.theory.derivations.model import vanishes

STUDENT, TEACHER, NOISE, CLUSTERS = sp.symbols("tau_s tau_t v K", positive=True)
LEVEL, CORRELATION = sp.symbols("epsilon phi_1", real=True)
MOMENTS = sp.symbols("m_1:4", positive=True)


def _softmax(logits: list[sp.Expr]) -> list[sp.Expr]:
    total = sum(map(sp.exp, logits))
    return [sp.exp(each) / total for each in logits]


def _cross_entropy(aim: list[sp.Expr], student: list[sp.Expr]) -> sp.Expr:
    return -sum(p * sp.log(q) for p, q in zip(aim, student, strict=True))


def within_cluster_pull(areas: int) -> sp.Expr:
    """Return −∂L/∂f_1 among the coordinates of a sample's own cluster, with the centre c = f/K of K equal clusters."""
    logits = list(sp.symbols(f"f_1:{areas + 1}", real=True))
    # clusters come equally often, and a coordinate is 0 in samples of others: its mean is the K-th part
    aim = _softmax([each * (1 - 1 / CLUSTERS) / TEACHER for each in logits])
    free = list(sp.symbols(f"g_1:{areas + 1}", real=True))
    slope = -sp.diff(_cross_entropy(aim, _softmax([each / STUDENT for each in free])), free[0])
    return slope.subs(dict(zip(free, logits, strict=True)))


def centre_threshold_holds(areas: int = 3) -> bool:
    """Prove that the pull is 0 at τ_t = τ_s (1 − 1/K), and that of the largest coordinate falls there with τ_t."""
    pull, at = within_cluster_pull(areas), STUDENT * (1 - 1 / CLUSTERS)
    logits = sp.symbols(f"f_1:{areas + 1}", real=True)
    shares = _softmax([each / STUDENT for each in logits])
    above_mean = logits[0] - sum(p * f for p, f in zip(shares, logits, strict=True))
    # τ_s > 0, K > 1 and P_1 > 0: the sign is that of f_1 − Σ_i P_i f_i
    slope = -shares[0] * above_mean / (STUDENT**2 * at)
    found = sp.diff(pull, TEACHER).subs(TEACHER, at)
    return vanishes(pull.subs(TEACHER, at)) and vanishes(found - slope)


def uniform_drift(areas: int = 2) -> sp.Expr:
    """Return −E ∂L/∂φ_1 at φ = 0 with one cluster and equal mean logits, in units of ε², its first order."""
    z, x, y = (sp.symbols(f"{name}_1:{areas + 1}", positive=True) for name in "zxy")
    boost = [sp.exp(z[0] * CORRELATION), *[sp.Integer(1)] * (areas - 1)]
    student = [LEVEL * a * b * c / STUDENT for a, b, c in zip(z, x, boost, strict=True)]
    teacher = [LEVEL * (a * b - MOMENTS[0]) / TEACHER for a, b in zip(z, y, strict=True)]
    slope = -sp.diff(_cross_entropy(_softmax(teacher), _softmax(student)), CORRELATION)
    second = sp.expand(sp.diff(slope.subs(CORRELATION, 0), LEVEL, 2).subs(LEVEL, 0) / 2)
    return sp.factor(_mean(second, z, (*x, *y)))


def _mean(expression: sp.Expr, latents: tuple[sp.Symbol, ...], counts: tuple[sp.Symbol, ...]) -> sp.Expr:
    """Return the expectation of a polynomial in independent latents and relative counts, of mean 1 and variance v."""
    total, of_count = sp.Integer(0), {1: sp.Integer(1), 2: 1 + NOISE}
    for powers, coefficient in sp.Poly(expression, *latents, *counts).terms():
        drawn = [MOMENTS[power - 1] for power in powers[: len(latents)] if power]
        drawn += [of_count[power] for power in powers[len(latents) :] if power]
        total += coefficient * sp.prod(drawn)
    return total


def uniform_threshold() -> sp.Expr:
    """Return the τ_t at which that drift is 0: below it local areas gain, above it they lose."""
    (found,) = sp.solve(uniform_drift(), TEACHER)
    return sp.simplify(found)
