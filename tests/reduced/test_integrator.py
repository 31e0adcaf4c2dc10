"""The integrator of flows: the answers of another one; company; runs that stall; refusals. Deterministic."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import LSODA
from scipy.optimize import brentq

from vitdyn.data import AreaSizes, Constant, Uniform
from vitdyn.objectives import Contrastive, MaskedReconstruction, Mixture
from vitdyn.reduced import (
    MeanField,
    StalledFlowError,
    crossing_time,
    integrate,
    integrate_batch,
    integrate_flows,
)
from vitdyn.reduced.right_hand_side import RightHandSide
from vitdyn.reduced.rosenbrock import rodas, root_within

SMALL = AreaSizes.from_exponents(1e3, 0.9, 0.4)
PATCHES = (1e4, 1e8, 1e20, 1e40)


def draw(rng, name, patches):
    """A random run: sizes, mask ratio, temperature, latents and the weight of contrast."""
    share, low = float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.8, 1.2))
    objective = {
        "mae": lambda: MaskedReconstruction(mask_ratio=share),
        "cl": lambda: Contrastive(mask_ratio=share, temperature=float(rng.uniform(0.3, 1))),
        "mixture": lambda: Mixture(mask_ratio=share, weight=float(rng.uniform(0.05, 0.3))),
    }[name]()
    return MeanField(
        sizes=AreaSizes.from_exponents(
            patches, float(rng.uniform(0.75, 0.95)), float(rng.uniform(0.2, 0.45))
        ),
        objective=objective,
        latents=Uniform(low=low, high=low + 0.4),
        clusters=1 if name == "mae" else int(rng.integers(8, 20)),
        nodes=6,
        until=0.95,
    )


def along_the_arc(spec):
    """log t and order parameters where the flow arrives, by LSODA along the arc length of (log t, y)."""
    right = spec.right_hand_side

    def slope(_, point):
        moved = np.exp(point[0]) * right(point[1:])
        return np.concatenate([[1.0], moved]) / np.sqrt(1 + moved @ moved)

    def excess(point):
        return float(right.target_attention(right.rows(point[1:]))) - spec.until

    drift = right(np.zeros(5))
    first = 1e-6 / np.abs(drift).max()
    begin = np.concatenate([[np.log(first)], first * drift])
    solver = LSODA(slope, 0.0, begin, np.inf, rtol=1e-9, atol=1e-11, max_step=2.0)
    while excess(solver.y) < 0:
        assert solver.step() is None
    inner = solver.dense_output()
    return inner(brentq(lambda place: excess(inner(place)), solver.t_old, solver.t, xtol=1e-12))


@pytest.mark.parametrize("name", ["mae", "cl", "mixture"])
def test_answers_are_those_of_another_integrator_on_another_clock(name, rng):
    # LSODA needs minutes for some mixtures at large P, and more the nearer to their thresholds they are.
    specs = [draw(rng, name, patches) for patches in ((1e4, 1e8, 1e20) if name != "mixture" else (1e4,))]
    found = integrate_batch(specs)
    assert set(found.status) == {"converged"}
    for index, spec in enumerate(specs):
        truth = along_the_arc(spec)
        assert found.log_time[index] == pytest.approx(truth[0], rel=0, abs=2e-5), spec
        np.testing.assert_allclose(found.state[index], truth[1:], rtol=0, atol=2e-5)


def test_the_error_falls_with_the_tolerance(rng):
    """Of the time at which a flow arrives: by more than two thirds of each factor of 100."""
    spec = replace(draw(rng, "mae", 1e4), nodes=4)
    ends = [integrate_batch([replace(spec, tolerance=each)]).log_time[0] for each in (1e-2, 1e-4, 1e-6, 1e-8)]
    errors = np.abs(np.array(ends[:-1]) - ends[-1])
    assert errors[0] < 1e-1 and (errors[1:] < errors[:-1] * 100 ** (-2 / 3)).all()


@pytest.mark.parametrize("name", ["mae", "cl", "mixture"])
def test_drifts_of_many_cells_are_those_of_each(name, rng):
    specs = [draw(rng, name, patches) for patches in PATCHES]
    states = rng.standard_normal((5, len(specs)))
    together = RightHandSide.together([spec.right_hand_side for spec in specs])
    single = np.stack([spec.right_hand_side(state) for spec, state in zip(specs, states.T, strict=True)], 1)
    np.testing.assert_allclose(together(states), single, rtol=1e-9)
    np.testing.assert_allclose(
        together.take(np.array([2, 0]))(states[:, [2, 0]]), single[:, [2, 0]], rtol=1e-9
    )


@pytest.mark.parametrize("name", ["mae", "cl", "mixture"])
def test_the_company_of_a_flow_changes_no_bit(name, rng):
    """Nor does how many are held at once: of where it ends, when it passes a level, and its whole trajectory."""
    specs = [replace(draw(rng, name, 10.0 ** rng.uniform(3, 6)), tolerance=1e-3, frames=9) for _ in range(5)]
    if name == "mae":
        specs = [replace(each, position_correlations=True) for each in specs]
    first = integrate_batch(specs, levels=(0.5,))
    for chosen, held in (([0, 1, 2, 3, 4], 2), ([3], 1), ([4, 0], 32)):
        other = integrate_batch([specs[index] for index in chosen], levels=(0.5,), max_active=held)
        for field in ("log_time", "state", "attention", "crossing", "steps"):
            np.testing.assert_array_equal(getattr(other, field), getattr(first, field)[chosen], err_msg=field)
    assert integrate_flows(specs)[3].dataset.equals(integrate(specs[3]).dataset)


def test_flows_of_several_kinds_come_back_in_order():
    """And one that stalls spoils none: its error stands where its trajectory would."""
    good = MeanField(sizes=SMALL, objective=Contrastive(), clusters=8, nodes=4, until=0.6, tolerance=1e-3)
    specs = [
        replace(good, objective=Contrastive(weight_decay=1.0)),
        replace(good, nodes=5),
        replace(good, objective=Mixture(weight=0.0)),
        replace(good, objective=Mixture(weight=0.2)),
        replace(good, clusters=9),
        good,
    ]
    lost, *found = integrate_flows(specs)
    assert isinstance(lost, StalledFlowError) and lost.spec == specs[0] and "stalled" in str(lost)
    for spec, trajectory in zip(specs[1:], found, strict=True):
        alone = integrate(spec).dataset
        assert trajectory.dataset.equals(alone) and trajectory.dataset.attrs["spec"] == alone.attrs["spec"]
    with pytest.raises(StalledFlowError, match=re.escape(str(lost))):
        integrate(specs[0])


def test_a_stalled_run_says_so_and_spoils_nothing():
    good = MeanField(sizes=SMALL, objective=Contrastive(), clusters=8, nodes=6, until=0.9)
    decayed = replace(good, objective=Contrastive(weight_decay=1.0))
    still = replace(good, latents=Uniform(low=1.2, high=1.2), clusters=1)
    found = integrate_batch([decayed, good])
    assert found.status == ("stalled", "converged")
    alone = integrate_batch([good])
    np.testing.assert_allclose(found.state[1], alone.state[0], atol=1e-6)
    assert found.attention[0, 0] < 0.9 and np.isfinite(found.attention).all()
    assert integrate_batch([replace(still, latents=Constant())]).status[0] in ("stalled", "converged")


def test_crossings_are_those_of_the_recorded_frames(rng):
    spec = replace(draw(rng, "mae", 1e6), frames=400)
    found = integrate_batch([spec, replace(spec, until=0.4)], levels=(0.4, 0.8))
    assert found.crossing[0, 0] == pytest.approx(found.log_time[1], abs=1e-6)
    assert np.isnan(found.crossing[1, 1]) and found.crossing[0, 1] < found.log_time[0]
    trajectory = integrate(spec)
    own = trajectory["own_area_attention"].sel(statistic="mean").to_numpy()[:, 0, 0].min(-1)
    assert found.crossing[0, 1] == pytest.approx(np.log(crossing_time(trajectory, own, 0.8)), abs=2e-3)
    assert (np.diff(trajectory["time"]) >= 0).all()


def test_without_an_aim_a_flow_rests():
    found = integrate_batch([MeanField(sizes=SMALL, nodes=6, until=None)])
    assert found.status == ("fixed point",)


def test_one_step_is_of_order_four_and_its_inside_of_three():
    slope = lambda u: np.stack([u[1], -u[0] - u[0] ** 3])  # noqa: E731
    begin, zero = np.array([[0.8], [0.1]]), np.zeros(1)
    jacobian = np.array([[zero, zero + 1], [-1 - 3 * begin[0] ** 2, zero]])
    lengths = np.array([0.2, 0.1, 0.05])
    fine = []
    for length in lengths:
        for share in (1.0, 0.5):
            u, parts = begin, 200
            for _ in range(parts):
                local = np.array([[zero, zero + 1], [-1 - 3 * u[0] ** 2, zero]])
                u = u + rodas(slope, u, slope(u), local, np.array([length * share / parts])).increment
            fine.append(u - begin)
    steps = [rodas(slope, begin, slope(begin), jacobian, lengths[i : i + 1]) for i in range(3)]
    whole = [np.abs(step.increment - fine[2 * i]).max() for i, step in enumerate(steps)]
    inner = [np.abs(step.inside(np.array([0.5])) - fine[2 * i + 1]).max() for i, step in enumerate(steps)]
    assert np.log2(whole[-2] / whole[-1]) > 4.5
    assert np.log2(inner[-2] / inner[-1]) > 3.5


def test_roots_and_singular_systems():
    found = root_within(lambda share: share**3 - np.array([0.1, 0.5, 1e-9]), 3)
    np.testing.assert_allclose(found**3, [0.1, 0.5, 1e-9], rtol=1e-9)
    begin, jacobian = np.ones((1, 2)), np.array([[[4.0, -1.0]]])  # 1/(hγ) − J is 0 in the first system
    step = rodas(lambda u: -u, begin, -begin, jacobian, np.ones(2))
    assert not np.isfinite(step.increment[0, 0]) and np.isfinite(step.increment[0, 1])


def test_cells_that_cannot_go_together(complaint):
    spec = MeanField(sizes=SMALL, nodes=6)
    with complaint("specs"):
        integrate_batch([])
    with complaint("specs", "learning_rate"):
        integrate_batch([replace(spec, learning_rate=1.0)])
    with complaint("specs", "learning_rate"):
        integrate_flows([replace(spec, learning_rate=1.0)])
    with complaint("specs.objective", "batch"):
        integrate_batch([spec, replace(spec, objective=Contrastive())])
    with complaint("specs.nodes", "batch"):
        integrate_batch([spec, replace(spec, nodes=8)])
    with complaint("levels"):
        integrate_batch([spec], levels=(1.5,))


def test_the_threshold_of_the_mixture_is_a_jump_that_survives_many_patches():
    """Local areas are kept whole at λ = 0.56 and lost wholly at 0.60, at each P, and more so the larger P is."""
    specs = [
        MeanField(
            sizes=AreaSizes.from_exponents(patches, 0.9, 0.3),
            objective=Mixture(weight=weight),
            clusters=16,
            nodes=10,
            until=None,
            tolerance=1e-4,
        )
        for patches in (1e6, 1e9, 1e12)
        for weight in (0.56, 0.60)
    ]
    kept, lost = integrate_batch(specs).attention[:, 1].reshape(3, 2).T
    assert (lost < 1e-4).all()
    assert 0.8 < kept[0] < kept[1] < kept[2] and kept[2] > 0.99
