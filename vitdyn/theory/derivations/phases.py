"""Times and levels: the leading drifts of ``start`` integrated, for constant latents unless said otherwise.

With constant latents z the leading drifts are powers of e^{zφ}. What is integrated here is these alone: that
the neglected terms stay small on the way is the heuristic step.
"""

from __future__ import annotations

from collections.abc import Callable

import sympy as sp

from vitdyn.theory.derivations import reconstruction, start
from vitdyn.theory.derivations.asymptotics import ALPHA, MASKED, RHO, VISIBLE, P, leading_term

Z, TIME, LEVEL, PUSHED = sp.symbols("z t phi x", positive=True)
LOW, HIGH, GAP = sp.symbols("L U Delta", positive=True)


def _constant_latents(drift: sp.Expr) -> sp.Expr:
    """Return the leading term of a drift with m_k = z^k."""
    return leading_term(drift).subs({moment: Z**k for k, moment in enumerate(start.MOMENTS, 1)})


def own_rate() -> sp.Expr:
    """Return dφ_a/dt of a local query at correlation φ_a."""
    return _constant_latents(start.own_drift()).subs(start.LIFT_OWN, sp.exp(Z * LEVEL))


def pushed_rate() -> sp.Expr:
    """Return dx/dt of a local query, x = −φ_1."""
    return -_constant_latents(start.global_drift()).subs(start.LIFT_GLOBAL, sp.exp(-Z * PUSHED))


def global_query_rate() -> sp.Expr:
    """Return dφ_1/dt of a query of the global area."""
    return _constant_latents(start.global_query_drift()).subs(start.LIFT_GLOBAL, sp.exp(Z * LEVEL))


def contrast_rate(views: int = 3) -> sp.Expr:
    """Return dφ_1/dt in contrast, for K = 2 clusters: with one, constant latents have no leading drift."""
    rate = _constant_latents(start.contrast_global_drift(views).subs(start.CLUSTERS, 2))
    return rate.subs(start.LIFT_GLOBAL, sp.exp(Z * LEVEL))


def elapsed(rate: sp.Expr, variable: sp.Symbol, level: sp.Expr) -> sp.Expr:
    """Return the time ∫_0^level dφ / rate in which φ rises from 0 to ``level`` (sp.oo: blows up)."""
    # dφ/dt = c g(φ) separates: the time is ∫ dφ/g, over c.
    constant, moving = rate.as_independent(variable, as_Add=False)
    return sp.powsimp(sp.simplify(sp.integrate(1 / moving, (variable, 0, level))) / constant, force=True)


def local_area_time() -> sp.Expr:
    """Return the blow-up time of φ_a: P^{1−κ_s} / (γ(1−γ) z⁴), without log P."""
    return elapsed(own_rate(), LEVEL, sp.oo)


def global_area_time() -> sp.Expr:
    """Return the blow-up time of φ_1 of a global query: P^{1−κ_c} / (γ(1−γ) z⁴)."""
    return elapsed(global_query_rate(), LEVEL, sp.oo)


def contrastive_time(views: int = 3) -> sp.Expr:
    """Return the blow-up time of φ_1 in contrast, of order P^{1+2(1−κ_c)}."""
    return elapsed(contrast_rate(views), LEVEL, sp.oo)


def phase_one_level() -> sp.Expr:
    """Return the x at which dx/dt has fallen to dφ_a/dt at φ_a = 0, solved: (Δ log P + log(1−γ)) / (2z).

    The condition is E[z³e^{−2zx}]/E[z³] = P^{−Δ}/(1−γ), for constant latents.
    """
    ratio = sp.powsimp(sp.expand(pushed_rate() / own_rate().subs(LEVEL, 0)), force=True)
    (level,) = sp.solve(sp.expand_log(sp.log(ratio), force=True), PUSHED)
    return sp.expand(level)


def _pushed_exponential() -> sp.Expr:
    """Return e^{2zx} at time t, by inverting the elapsed time."""
    lift = sp.Symbol("E", positive=True)
    time = sp.expand(elapsed(pushed_rate(), PUSHED, PUSHED)).subs(sp.exp(2 * Z * PUSHED), lift)
    (solution,) = sp.solve(time - TIME, lift)
    return sp.expand(sp.powsimp(solution, force=True))


def phase_one_time() -> sp.Expr:
    """Return the time at which x(t) is at ``phase_one_level``: of order P^{1−κ_s}, like all of phase II."""
    found = elapsed(pushed_rate(), PUSHED, PUSHED).subs(PUSHED, phase_one_level())
    return leading_term(sp.simplify(found).subs(RHO, ALPHA + GAP)).subs(GAP, RHO - ALPHA)


def phase_one_start() -> sp.Expr:
    """Return the time 1/(dx/dt) at x = 0, in which x becomes of order one: of order P^{2(1−κ_c)}."""
    return 1 / pushed_rate().subs(PUSHED, 0)


def phase_one_end() -> tuple[sp.Expr, sp.Expr]:
    """Return (t, e^{2zx}) at which dx/dt and dφ_a/dt agree on their paths, t over the blow-up time of φ_a.

    Here φ_a has moved as well. Both for Δ > 0, leading order: (1/3, (2/3)(1−γ) P^Δ).
    """
    pushed, own = sp.symbols("c_1 c_a", positive=True)
    # Rates that are single exponentials have paths in closed form.
    path_own = -sp.log(1 - Z * own * TIME) / Z
    path_pushed = sp.log(1 + 2 * Z * pushed * TIME) / (2 * Z)
    (when,) = sp.solve(sp.together(path_pushed.diff(TIME) - path_own.diff(TIME)), TIME)
    lift = sp.simplify(sp.exp(2 * Z * path_pushed).subs(TIME, when))
    rates = {pushed: pushed_rate().subs(PUSHED, 0), own: own_rate().subs(LEVEL, 0)}
    parts = (sp.powsimp(sp.expand(part.subs(rates)), force=True) for part in (when / local_area_time(), lift))
    share, value = (leading_term(part.subs(RHO, ALPHA + GAP)).subs(GAP, RHO - ALPHA) for part in parts)
    return sp.powsimp(share), sp.powsimp(value)


def pushed_level_at_takeover() -> sp.Expr:
    """Return x at the blow-up time of φ_a, for Δ > 0, to order one: (Δ log P + log(2(1−γ))) / (2z)."""
    lift = sp.expand(sp.powsimp(_pushed_exponential().subs(TIME, local_area_time()), force=True))
    leading = leading_term(lift.subs(RHO, ALPHA + GAP)).subs(GAP, RHO - ALPHA)
    return sp.expand_log(sp.log(leading), force=True) / (2 * Z)


def tail_path() -> sp.Expr:
    """Return ε(t) = 1 − A_a late in training, with ε(0) = ε_0: the solution of dε/dt = −z ε dφ_a/dt.

    dφ_a/dt = γ z A_a (g_a − ḡ) at A_a = 1 − ε, to leading order in ε. What is missing lies on masked keys and
    on many local areas, whose Σ A_j² is small against ε²; ε falls like e^{−zφ_a}.
    """
    epsilon, first = sp.Function("epsilon"), sp.Symbol("epsilon_0", positive=True)
    small = sp.Symbol("s")
    # One area alone: what goes elsewhere falls on masked keys, which pull on nothing.
    (pull,), mean = reconstruction.pulls((Z,), (1 - small,), own=0)
    drift = sp.expand(MASKED * Z * (1 - small) * (pull - mean))
    rate = sp.series(drift, small, 0, 3).removeO()
    missing = epsilon(TIME)
    equation = sp.Eq(missing.diff(TIME), -Z * missing * rate.subs(small, missing))
    return sp.powdenest(sp.simplify(sp.dsolve(equation, missing, ics={epsilon(0): first}).rhs), force=True)


def tail_constant() -> sp.Expr:
    """Return the limit of (dφ_a/dt)/((E ε)² φ_a) for uniform latents on [L, U], ε(z) = e^{−zφ_a}.

    It is finite: the smallest latents rule both E ε and the drift, so ε ~ t^{−1/2} up to powers of log t.
    """
    z, width = sp.symbols("z d", positive=True)
    ends = (z, LOW, LOW + width)
    missing = sp.integrate(sp.exp(-z * LEVEL), ends) / width
    drift = MASKED * sp.integrate(z**3 * sp.exp(-2 * z * LEVEL), ends) / width
    limit = sp.limit(sp.simplify(drift / (missing**2 * LEVEL)), LEVEL, sp.oo)
    return sp.factor(limit.subs(width, HIGH - LOW))


def numeric(expression: sp.Expr) -> Callable[..., float]:
    """Return a time or level as a function of (P, κ_c, κ_s, γ, z); contrast at τ = 1."""
    kappa_c, kappa_s = sp.symbols("kappa_c kappa_s", positive=True)
    exponents = {ALPHA: 1 - kappa_c, RHO: kappa_c - kappa_s, VISIBLE: 1 - MASKED, start.TAU: 1}
    fixed = expression.subs(exponents, simultaneous=True)
    return sp.lambdify((P, kappa_c, kappa_s, MASKED, Z), fixed, "math")
