"""The mean field in motion: against an independent integrator, real runs, and what the formulas say at large P."""

from dataclasses import replace
from math import log

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from vitdyn.data import AreaSizes, Custom, PatchGenerator, PatchLayout, TwoPoint, Uniform
from vitdyn.dynamics import GradientDescent, Schedule, Training, simulate
from vitdyn.experiments import Experiment, run
from vitdyn.objectives import Contrastive, MaskedReconstruction, Mixture
from vitdyn.reduced import MeanField, StalledFlowError, integrate, integrate_descents
from vitdyn.trajectory import Trajectory

SMALL = AreaSizes.from_exponents(1e3, 0.9, 0.4)
GREAT = AreaSizes.from_exponents(1e40, 0.9, 0.4)


def states(trajectory):
    """Local φ_1, φ_a, φ_o, global φ_1, φ_o, frame by frame."""
    phi = trajectory["feature_position"].sel(statistic="mean").to_numpy()[:, 0, 0]
    return np.stack([phi[:, 1, 0], phi[:, 1, 1], phi[:, 1, 2], phi[:, 0, 0], phi[:, 0, 1]], 1)


def end_time(spec):
    return float(integrate(spec).final["time"])


def flow_to(spec, time):
    """The flow by another method: DOP853 in plain time."""
    right = spec.right_hand_side
    found = solve_ivp(lambda _, y: right(y), (0, time), np.zeros(5), method="DOP853", rtol=1e-11, atol=1e-13)
    return found.y[:, -1]


@pytest.mark.parametrize(
    "objective",
    [MaskedReconstruction(), Mixture(weight=0.2), Contrastive()],
    ids=lambda objective: objective.name,
)
def test_flow_is_that_of_another_integrator(objective):
    spec = MeanField(sizes=SMALL, objective=objective, clusters=2, until=0.5, frames=40, nodes=8)
    trajectory = integrate(spec)
    for frame in (10, 25, -1):
        # The first step is one of Euler, 1e-3 long: an error of 1e-6 and less.
        truth = flow_to(spec, float(trajectory["time"][frame]))
        np.testing.assert_allclose(states(trajectory)[frame], truth, rtol=0, atol=1e-4)


@pytest.mark.parametrize("position", [False, True])
def test_descents_at_once_are_those_of_each(position):
    """Also where some end sooner than others, and where sizes, rates, weights and distributions differ."""
    common = {"nodes": 6, "frames": 12, "steps": 150, "position_correlations": position}
    blocks = [
        MeanField(sizes=AreaSizes.from_exponents(patches, 0.9, 0.4), objective=Mixture(weight=weight),
                  latents=distribution, learning_rate=rate * patches, until=until, **common)
        for patches, weight, distribution, rate, until in (
            (1e3, 0.3, Uniform(), 4.0, 0.3), (1e4, 0.7, Uniform(low=0.5, high=0.8), 3.0, None),
            (1e3, 0.0, Uniform(), 4.0, 0.5), (1e3, 1.0, Uniform(), 2.0, 0.9),
        )
    ]  # fmt: skip
    found = integrate_descents(blocks)
    lengths = {each.dataset.sizes["frame"] for each in found}
    assert len(lengths) > 1 and max(lengths) == 12
    for spec, trajectory in zip(blocks, found, strict=True):
        alone = integrate(spec)
        assert trajectory.dataset.attrs["spec"] == alone.dataset.attrs["spec"]
        for name in alone.dataset.variables:
            values, truth = (each.dataset[name].to_numpy() for each in (trajectory, alone))
            if truth.dtype.kind == "f":
                np.testing.assert_allclose(values, truth, rtol=1e-9, atol=1e-12, err_msg=name)
            else:
                np.testing.assert_array_equal(values, truth)


def test_the_company_of_a_descent_changes_no_bit():
    blocks = [MeanField(sizes=SMALL, objective=Mixture(weight=weight), nodes=6, frames=5, steps=40, until=None,
                       learning_rate=4e3) for weight in np.linspace(0, 1, 7)]  # fmt: skip
    every = integrate_descents(blocks)
    for chosen in ([5, 1], [2, 3, 4], [6, 6]):
        for index, trajectory in zip(
            chosen, integrate_descents([blocks[each] for each in chosen]), strict=True
        ):
            assert trajectory.dataset.equals(every[index].dataset)


def test_descents_that_cannot_go_together(complaint):
    spec = MeanField(sizes=SMALL, nodes=6, learning_rate=1.0, steps=5)
    for other, field in (
        (replace(spec, steps=6), "specs.steps"),
        (replace(spec, frames=9), "specs.frames"),
        (replace(spec, nodes=8), "specs.nodes"),
        (replace(spec, learning_rate=None), "specs"),
    ):
        with complaint(field):
            integrate_descents([spec, other])
    wild = replace(spec, objective=Contrastive(weight_decay=1.0), learning_rate=1e9, until=None, steps=500)
    calm = replace(wild, learning_rate=0.1)
    with pytest.raises(StalledFlowError, match=r"1e\+09 diverged") as raised:
        integrate_descents([calm, wild])
    assert raised.value.spec == wild


def test_descent_tends_to_the_flow_with_the_learning_rate():
    time, errors = 200.0, []
    spec = MeanField(sizes=SMALL, nodes=8, until=None)
    truth = flow_to(spec, time)
    for rate in (8.0, 4.0, 2.0):
        optimizer = MeanField(
            sizes=SMALL, nodes=8, until=None, learning_rate=rate, steps=round(time / rate), frames=8
        )
        trajectory = integrate(optimizer)
        assert float(trajectory.final["time"]) == time
        errors.append(np.abs(states(trajectory)[-1] - truth).max())
    slopes = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(slopes, 1, atol=0.1)
    assert errors[-1] > 1e-6, "else the slope is one of round-off"


def test_real_descent_follows_the_mean_field():
    """P = 256, C_s = 16: φ_1 and φ_a of local queries, within 10 %."""
    layout = PatchLayout.from_sizes([64] + [16] * 12)
    training = Training(
        generator=PatchGenerator(layout=layout),
        objective=MaskedReconstruction(),
        optimizer=GradientDescent(learning_rate=4.0),
        steps=30,
        batch_size=64,
        evaluation_samples=4,
        seeds=(0,),
        schedule=Schedule(spacing="linear", frames=4),
        precision="float64",
    )
    real = simulate(training)
    spec = MeanField(sizes=AreaSizes.of(layout), learning_rate=4.0, steps=30, until=None)
    final = states(integrate(spec))[-1]
    phi = real["feature_position"].sel(statistic="mean").to_numpy()[-1, 0, 0]
    assert phi[1:, 0].mean() == pytest.approx(final[0], rel=0.1)
    assert np.diagonal(phi[1:, 1:]).mean() == pytest.approx(final[1], rel=0.1)
    assert abs(final[0]) > 0.1 and final[1] > 1, "something has been learnt"


@pytest.mark.parametrize(
    "objective",
    [MaskedReconstruction(), Contrastive(), Mixture(weight=0.0)],
    ids=lambda objective: objective.name,
)
@pytest.mark.parametrize("distribution", [Uniform(), TwoPoint()], ids=["uniform", "two-point"])
def test_flows_at_any_size_finish(objective, distribution):
    trajectory = integrate(
        MeanField(sizes=GREAT, objective=objective, latents=distribution, clusters=64, until=0.9)
    )
    for name, array in trajectory.dataset.data_vars.items():
        assert np.isfinite(array.to_numpy()).all(), name
    clock = trajectory["time"].to_numpy()
    # During a jump log t stands still, up to the tolerance of the integrator.
    assert np.isfinite(clock).all() and clock[0] == 0
    assert (np.diff(clock) >= -1e-7 * clock[1:]).all()
    attention = trajectory["area_attention"].sel(statistic="mean").to_numpy()[-1, 0, 0]
    own = np.diagonal(attention)[:2] if objective.name != "cl" else attention[:2, 0]
    assert own.min() == pytest.approx(0.9, abs=1e-4)


def test_rows_of_contrast_stay_equal():
    trajectory = integrate(
        MeanField(sizes=GREAT, objective=Contrastive(), clusters=2, until=0.9, tolerance=1e-8)
    )
    path = states(trajectory)
    assert path[-1, 0] > 5
    np.testing.assert_allclose(path[:, 0], path[:, 3], rtol=0, atol=1e-6)
    np.testing.assert_allclose(path[:, 1], path[:, 2], rtol=0, atol=1e-6)
    np.testing.assert_allclose(path[:, 2], path[:, 4], rtol=0, atol=1e-6)


def test_ends_of_the_mixture():
    """λ = 0 is masked reconstruction at 1/(γP) of its rate, λ = 1 is contrast."""
    generative = MeanField(sizes=SMALL, objective=MaskedReconstruction(mask_ratio=0.6), clusters=2, until=0.9)
    slow = MeanField(sizes=SMALL, objective=Mixture(weight=0.0, mask_ratio=0.6), clusters=2, until=0.9)
    assert end_time(slow) == pytest.approx(0.6 * SMALL.patches * end_time(generative), rel=1e-5)
    np.testing.assert_allclose(states(integrate(slow))[-1], states(integrate(generative))[-1], atol=1e-4)
    contrast = MeanField(sizes=SMALL, objective=Contrastive(), clusters=2, until=0.9)
    same = MeanField(sizes=SMALL, objective=Mixture(weight=1.0), clusters=2, until=0.9)
    # One path; its end is read at hidden queries, who lack themselves, or at all: 1/C_1 of attention apart.
    state = np.array([0.5, -0.1, 0.2, 0.7, -0.3])
    np.testing.assert_array_equal(same.right_hand_side(state), contrast.right_hand_side(state))
    assert end_time(same) == pytest.approx(end_time(contrast), rel=1 / SMALL.global_size)


def test_time_of_masked_reconstruction_grows_like_the_number_of_local_areas(rng):
    """t = Θ(P^{1 − κ_s}) without a logarithm, in the limit."""
    kappa_c, kappa_s = rng.uniform(0.8, 0.95), rng.uniform(0.2, 0.4)
    near, far = (
        end_time(MeanField(sizes=AreaSizes.from_exponents(patches, kappa_c, kappa_s), until=0.9))
        for patches in (1e20, 1e30)
    )
    assert log(far / near) / (10 * log(10)) == pytest.approx(1 - kappa_s, abs=2e-3), (kappa_c, kappa_s)


def test_files_and_experiments_give_the_same_back(tmp_path):
    spec = MeanField(sizes=SMALL, objective=Mixture(weight=0.0), clusters=2, until=0.5, frames=12)
    trajectory = integrate(spec)
    stored = Trajectory.load(trajectory.save(tmp_path / "flow.nc"))
    assert stored.dataset.equals(trajectory.dataset)
    assert stored.spec == trajectory.spec
    experiment = Experiment(name="flow", training=spec)
    again = Experiment.from_json(experiment.to_json())
    assert again == experiment and again.key == experiment.key
    assert run(again).dataset.equals(trajectory.dataset)


def test_position_correlations_are_recorded_and_small():
    spec = MeanField(sizes=SMALL, position_correlations=True, until=0.5)
    final = integrate(spec).final.sel(statistic="mean")
    to_own = float(final["position_position"][0, 0, 1, 1]), float(final["feature_position"][0, 0, 1, 1])
    assert 0 < to_own[0] < 3 * to_own[1] / SMALL.local_size
    assert "position_position" not in integrate(MeanField(sizes=SMALL, until=0.5)).dataset


def drawn(generator, shape):
    return generator.uniform(1.0, 2.0, shape)


@pytest.mark.parametrize(
    ("changes", "field", "remedy"),
    [
        ({"until": 0.0}, "until", ""),
        ({"until": 1.0}, "until", ""),
        ({"clusters": 0}, "clusters", ""),
        ({"negatives": 0}, "negatives", ""),
        ({"learning_rate": 0.0}, "learning_rate", ""),
        ({"nodes": 1}, "nodes", ""),
        ({"steps": 0}, "steps", ""),
        ({"sizes": PatchLayout.from_sizes([4, 2])}, "sizes", "AreaSizes"),
        ({"objective": "hybrid"}, "objective", ""),
        ({"position_correlations": True, "clusters": 2}, "position_correlations", "clusters=1"),
        (
            {"objective": MaskedReconstruction(mask_ratio=1e-4)},
            "objective.mask_ratio",
            "at least one of 1000",
        ),
        ({"objective": Contrastive(mask_ratio=0.9999)}, "objective.mask_ratio", "at least one of 1000"),
        (
            {"objective": Contrastive(mask_ratio=0.4, views="complementary")},
            "objective.views",
            "mask_ratio=0.5",
        ),
        ({"objective": Mixture(mask_ratio=0.4, views="complementary")}, "objective.views", "independent"),
        ({"latents": Custom(draw=drawn, low=1.0, high=2.0)}, "latents", "uniform"),
    ],
)
def test_specs_that_cannot_be(changes, field, remedy, complaint):
    with complaint(field, remedy):
        MeanField(**{"sizes": SMALL} | changes)


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_weights_of_a_mixture_lie_between_the_two(weight, complaint):
    with complaint("weight"):
        Mixture(weight=weight)


def test_a_flow_that_does_not_get_there_says_so():
    decayed = Contrastive(weight_decay=1.0)
    with pytest.raises(StalledFlowError, match=r"the flow (stalled|went stiff).* at t = \d"):
        integrate(MeanField(sizes=SMALL, objective=decayed, clusters=2, until=0.9))
    with pytest.raises(StalledFlowError, match="take a smaller one"):
        integrate(
            MeanField(sizes=SMALL, objective=Contrastive(weight_decay=1.0), learning_rate=1e9, until=None)
        )
