"""The mean field in batch: the answers of the scalar integrator; stalled cells; refusals. Deterministic."""

from dataclasses import replace

import numpy as np
import pytest

from vitdyn.data import AreaSizes, Constant, Uniform
from vitdyn.lumped import MeanField, StalledFlowError, crossing_time, integrate
from vitdyn.lumped.batched import integrate_batch
from vitdyn.lumped.right_hand_side import RightHandSide
from vitdyn.lumped.rosenbrock import rodas, root_within
from vitdyn.objectives import Contrastive, MaskedReconstruction, Mixture

SMALL = AreaSizes.from_exponents(1e3, 0.9, 0.4)
PATCHES = (1e4, 1e8, 1e20, 1e40)


def draw(rng, name, patches):
    """A random cell: sizes, mask ratio, temperature, latents and the weight of contrast."""
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


def end_of(spec):
    """log t, order parameters and attention at the end of the scalar flow; None where it stalls."""
    try:
        final = integrate(spec).final.sel(statistic="mean")
    except StalledFlowError:
        return None
    phi, attention = (final[name].to_numpy()[0, 0] for name in ("feature_position", "area_attention"))
    pick = lambda table: np.array([table[1, 0], table[1, 1], table[1, 2], table[0, 0], table[0, 1]])  # noqa: E731
    return float(np.log(final["time"])), pick(phi), pick(attention)


@pytest.mark.parametrize("name", ["mae", "cl", "mixture"])
def test_answers_are_those_of_the_scalar_integrator(name, rng):
    # The scalar integrator needs minutes for some mixtures at P = 10^40.
    cells = [draw(rng, name, patches) for patches in (PATCHES if name != "mixture" else PATCHES[:2])]
    found = integrate_batch(cells)
    for index, spec in enumerate(cells):
        truth = end_of(spec)
        assert (truth is None) == bool(found.stalled[index]), (spec, found.status[index])
        if truth is None:
            continue
        assert found.status[index] == "converged"
        log_time, state, attention = truth
        assert found.log_time[index] == pytest.approx(log_time, rel=1e-4, abs=5e-4), spec
        np.testing.assert_allclose(found.attention[index], attention, rtol=0, atol=1e-5)
        np.testing.assert_allclose(found.state[index], state, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["mae", "cl", "mixture"])
def test_drifts_of_many_cells_are_those_of_each(name, rng):
    cells = [draw(rng, name, patches) for patches in PATCHES]
    states = rng.standard_normal((5, len(cells)))
    together = RightHandSide.together(cells)
    single = np.stack([spec.right_hand_side(state) for spec, state in zip(cells, states.T, strict=True)], 1)
    np.testing.assert_allclose(together(states), single, rtol=1e-9)
    np.testing.assert_allclose(
        together.take(np.array([2, 0]))(states[:, [2, 0]]), single[:, [2, 0]], rtol=1e-9
    )


def test_cells_do_not_depend_on_their_company_and_runs_repeat(rng):
    cells = [draw(rng, "mae", 10.0 ** rng.uniform(3, 9)) for _ in range(5)]
    first, again = integrate_batch(cells), integrate_batch(cells)
    np.testing.assert_array_equal(first.state, again.state)
    for other in (integrate_batch(cells, lanes=2), integrate_batch(cells[:1])):
        count = len(other.status)
        np.testing.assert_allclose(other.log_time, first.log_time[:count], atol=1e-5)
        np.testing.assert_allclose(other.attention, first.attention[:count], atol=1e-6)


def test_a_stalled_cell_says_so_and_spoils_nothing():
    good = MeanField(sizes=SMALL, objective=Contrastive(), clusters=8, nodes=6, until=0.9)
    decayed = replace(good, objective=Contrastive(weight_decay=1.0))
    still = replace(good, latents=Uniform(low=1.2, high=1.2), clusters=1)
    found = integrate_batch([decayed, good])
    assert found.status == ("stalled", "converged")
    alone = integrate_batch([good])
    np.testing.assert_allclose(found.state[1], alone.state[0], atol=1e-6)
    assert found.attention[0, 0] < 0.9 and np.isfinite(found.attention).all()
    assert integrate_batch([replace(still, latents=Constant())]).status[0] in ("stalled", "converged")


def test_crossings_and_paths(rng):
    spec = replace(draw(rng, "mae", 1e6), frames=400)
    found = integrate_batch([spec, replace(spec, until=0.4)], levels=(0.4, 0.8), paths=True)
    assert found.crossing[0, 0] == pytest.approx(found.log_time[1], abs=1e-6)
    assert np.isnan(found.crossing[1, 1]) and found.crossing[0, 1] < found.log_time[0]
    trajectory = integrate(spec)
    own = trajectory["own_area_attention"].sel(statistic="mean").to_numpy()[:, 0, 0].min(-1)
    assert found.crossing[0, 1] == pytest.approx(np.log(crossing_time(trajectory, own, 0.8)), abs=2e-3)
    assert (np.diff(found.paths[0][:, 0]) >= 0).all() and found.paths[0].shape[1] == 6


def test_without_an_aim_a_flow_rests():
    found = integrate_batch([MeanField(sizes=SMALL, nodes=6, until=None)])
    assert found.status == ("rested",)


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
    with complaint("cells"):
        integrate_batch([])
    with complaint("cells", "learning_rate"):
        integrate_batch([replace(spec, learning_rate=1.0)])
    with complaint("cells.objective", "batch"):
        integrate_batch([spec, replace(spec, objective=Contrastive())])
    with complaint("cells.nodes", "batch"):
        integrate_batch([spec, replace(spec, nodes=8)])
    with complaint("levels"):
        integrate_batch([spec], levels=(1.5,))


def test_the_threshold_of_the_mixture_is_a_jump_that_survives_many_patches():
    """Local areas are kept whole at λ = 0.56 and lost wholly at 0.60, at each P, and more so the larger P is."""
    kept = []
    for patches in (1e6, 1e9, 1e12):
        below, above = (
            MeanField(
                sizes=AreaSizes.from_exponents(patches, 0.9, 0.3),
                objective=Mixture(weight=weight),
                clusters=16,
                nodes=10,
                until=None,
            )
            for weight in (0.56, 0.60)
        )
        own = integrate_batch([below, above]).attention[:, 1]
        assert own[1] < 1e-4
        kept.append(own[0])
    assert 0.8 < kept[0] < kept[1] < kept[2] and kept[2] > 0.99
