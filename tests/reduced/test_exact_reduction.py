"""The lumped dynamics against the full one: exactly on the same masks, in standard errors on its own draws."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from enumeration import LAYOUTS, counted, embed, population, project, random_order

from vitdyn.data import PatchGenerator, PatchLayout, TwoPoint, Uniform
from vitdyn.dynamics import GradientDescent, Schedule, Training, loss_gradient, simulate
from vitdyn.dynamics.gradient import forward_pass
from vitdyn.experiments import Experiment, ResultStore
from vitdyn.experiments.experiment import described
from vitdyn.objectives import Contrastive, MaskedReconstruction, Mixture
from vitdyn.observables.by_area import over_pairs, over_positions
from vitdyn.observables.standard import sample_mean
from vitdyn.reduced.by_block import observe_blocks
from vitdyn.reduced.counted_gradient import CountedBatch, Rows, counted_gradient, mean_attention
from vitdyn.reduced.exact_reduction import ExactReduction, descend, draw_counts, sampled_gradient
from vitdyn.reduced.symmetry import Symmetry
from vitdyn.trajectory import Trajectory, machine_name

OBJECTIVES = {
    "mae": MaskedReconstruction(mask_ratio=0.6),
    "cl": Contrastive(temperature=0.5, weight_decay=0.02),
    "complementary": Contrastive(mask_ratio=0.4, views="complementary"),
    "mixture": Mixture(weight=0.3, temperature=0.7),
}
STANDARD_ERRORS = 5.0  # some hundred order parameters are compared, so 4 would be met by chance now and then

layouts = pytest.mark.parametrize("name", LAYOUTS)
objectives = pytest.mark.parametrize("kind", OBJECTIVES)


def flat(order):
    return torch.cat([order.feature, order.position], 1).numpy()


def full_velocity(symmetry, order, objective, generator, samples, seeds, rng):
    """Symmetrised −gradient of the full simulation on one batch for each seed, at one state."""
    state = embed(symmetry, order.map(lambda block: block.expand(len(seeds), -1)))
    batch = generator.sample(samples, seeds, purpose="evaluation ")
    drawn = [objective.draw_views(rng, samples, symmetry.layout.patches) for _ in seeds]
    views = tuple(torch.from_numpy(np.stack(view)) for view in zip(*drawn, strict=True))
    gradient, _ = loss_gradient(state, objective, batch, views, {})
    return project(symmetry, gradient.map(torch.neg)), batch, views


def many_sampled(symmetry, order, objective, generator, *, samples, batches, queries="representatives"):
    wide = order.map(lambda block: block.expand(batches, -1))
    return flat(
        sampled_gradient(
            symmetry, wide, generator, objective, samples, range(batches), step=3, queries=queries
        )
    )


def distance(first, second):
    """How many standard errors the means of two sets of draws are apart (``second`` may be one exact row)."""
    error = first.var(0, ddof=1) / len(first)
    if len(second) > 1:
        error = error + second.var(0, ddof=1) / len(second)
    return np.abs(first.mean(0) - second.mean(0)) / (np.sqrt(error) + 1e-13)


@layouts
@objectives
def test_counts_give_the_symmetrised_gradient_of_any_masks(name, kind, rng):
    symmetry, objective = Symmetry.of(LAYOUTS[name]), OBJECTIVES[kind]
    generator = PatchGenerator(layout=symmetry.layout, latents=Uniform(low=0.3, high=2.0))
    for scale in (0.5, 2.0):
        order = random_order(symmetry, rng, scale=scale)
        full, batch, views = full_velocity(symmetry, order, objective, generator, 7, (4,), rng)
        counts = tuple(counted(symmetry, view[0]) for view in views)
        drawn = CountedBatch(batch.cluster[0].numpy(), batch.latents[0].numpy(), counts)
        found = counted_gradient(symmetry, order, objective, drawn)
        np.testing.assert_allclose(flat(found), flat(full), rtol=0, atol=1e-11 * np.abs(flat(full)).max())


def test_few_samples_at_a_time_change_nothing(rng, monkeypatch):
    symmetry, objective = Symmetry.of(LAYOUTS["two clusters"]), OBJECTIVES["mixture"]
    order, generator = random_order(symmetry, rng), PatchGenerator(layout=symmetry.layout)
    batch = draw_counts(symmetry, generator, objective, 9, 1)
    whole = counted_gradient(symmetry, order, objective, batch)
    monkeypatch.setattr("vitdyn.reduced.counted_gradient.MOST_NUMBERS", 2 * len(symmetry.block_sizes) ** 2)
    np.testing.assert_allclose(
        flat(counted_gradient(symmetry, order, objective, batch)), flat(whole), atol=1e-15
    )


@pytest.mark.parametrize("name", [name for name in LAYOUTS if LAYOUTS[name].patches < 8])
def test_draws_agree_with_the_enumerated_population(name, rng):
    symmetry, objective = Symmetry.of(LAYOUTS[name]), MaskedReconstruction()
    order = random_order(symmetry, rng)
    batch, visible = population(symmetry.layout, round(symmetry.layout.patches / 2))
    gradient, _ = loss_gradient(embed(symmetry, order), objective, batch, (visible,), {})
    exact = flat(project(symmetry, gradient.map(torch.neg)))
    distribution = TwoPoint(low=0.6, high=1.7)
    generator = PatchGenerator(layout=symmetry.layout, latents=distribution)
    drawn = many_sampled(symmetry, order, objective, generator, samples=60, batches=300)
    assert distance(drawn, exact).max() < STANDARD_ERRORS
    # The comparison can fail: at the opposite sign, and with Υ alone of the opposite sign.
    assert distance(-drawn, exact).max() > 4 * STANDARD_ERRORS
    position = symmetry.counts[0]
    flipped = np.concatenate([drawn[:, :position], -drawn[:, position:]], 1)
    assert distance(flipped, exact).max() > 4 * STANDARD_ERRORS


@pytest.mark.parametrize("name", ["one cluster, areas of one", "one cluster, unequal areas", "two clusters"])
@objectives
def test_draws_agree_with_the_full_simulation(name, kind, rng):
    symmetry, objective = Symmetry.of(LAYOUTS[name]), OBJECTIVES[kind]
    order = random_order(symmetry, rng)
    generator = PatchGenerator(layout=symmetry.layout)
    full = flat(full_velocity(symmetry, order, objective, generator, 6, range(400), rng)[0])
    drawn = many_sampled(symmetry, order, objective, generator, samples=6, batches=400)
    assert distance(drawn, full).max() < STANDARD_ERRORS
    assert distance(-drawn, full).max() > 2 * STANDARD_ERRORS


def test_rows_of_all_blocks_are_less_noisy_than_representatives(rng):
    symmetry, objective = Symmetry.of(PatchLayout.from_sizes([16, 3, 3, 3, 3, 3])), MaskedReconstruction()
    order, generator = random_order(symmetry, rng), PatchGenerator(layout=symmetry.layout)
    few, all_rows = (
        many_sampled(symmetry, order, objective, generator, samples=20, batches=200, queries=queries)
        for queries in ("representatives", "all")
    )
    assert distance(few, all_rows).max() < STANDARD_ERRORS
    assert np.log(all_rows.var(0) / few.var(0)).mean() < np.log(0.8)


@pytest.mark.parametrize("kind", ["mae", "cl"])
def test_a_run_agrees_with_the_full_simulation(kind):
    layout = PatchLayout.from_exponents(64, 0.9, 0.3)
    objective, seeds, steps = {"mae": MaskedReconstruction(), "cl": Contrastive()}[kind], 8, 90
    reduced = descend(
        ExactReduction(layout=layout, objective=objective, steps=steps, batch_size=16, seeds=seeds, frames=6)
    )
    full = simulate(
        Training(
            generator=PatchGenerator(layout=layout),
            objective=objective,
            optimizer=GradientDescent(learning_rate=objective.default_learning_rate(layout)),
            steps=steps,
            batch_size=16,
            evaluation_samples=16,
            seeds=seeds,
            schedule=Schedule(frames=6),
            precision="float64",
        )
    )
    symmetry = Symmetry.of(layout)
    assert (reduced["time"] == full["time"]).all()
    for name in ("feature_position", "position_position", "position_position_self", "area_attention"):
        assert reduced[name].dims == full[name].dims
        assert reduced[name].shape == full[name].shape
        found, truth = (_by_class(run[name], symmetry) for run in (reduced, full))
        for frame in range(1, found.shape[1]):
            assert distance(found[:, frame], truth[:, frame]).max() < 6, (name, frame)
    moved = np.abs(_by_class(reduced["feature_position"], symmetry)[:, -1].mean(0)).max()
    assert moved > 1.0


def _by_class(values, symmetry):
    """Mean over interchangeable areas (all local ones here): (seed, frame, kind of query and key)."""
    found = values.sel(statistic="mean").isel(cluster=0).transpose("seed", "frame", ...).to_numpy()
    if found.ndim == 3:
        return np.stack([found[..., 0], found[..., 1:].mean(-1)], -1)
    local = found[..., 1:, 1:]
    own = np.diagonal(local, axis1=-2, axis2=-1)
    count = own.shape[-1]
    other = (local.sum((-1, -2)) - own.sum(-1)) / (count * (count - 1))
    kinds = (found[..., 0, 0], found[..., 0, 1:].mean(-1), found[..., 1:, 0].mean(-1), own.mean(-1), other)
    return np.stack(kinds, -1)


@layouts
def test_records_are_those_of_the_embedded_state(name, rng):
    symmetry = Symmetry.of(LAYOUTS[name])
    layout, order = symmetry.layout, random_order(symmetry, rng)
    state, tables = embed(symmetry, order), symmetry.tables(order, 0)
    nothing = np.zeros((layout.clusters, len(symmetry.block_sizes), layout.areas))
    found = observe_blocks(symmetry, tables, nothing, nothing[..., 0])
    lacking, upsilon = torch.from_numpy(layout.sizes == 0)[:, None], state.position_position
    phi = state.feature_position.transpose(1, 2).masked_fill(lacking, float("nan"))
    own = upsilon.diagonal(dim1=1, dim2=2)[:, None, :, None].expand(-1, layout.clusters, -1, -1)
    truth = {
        "feature_position": over_positions(phi, layout),
        "position_position": over_pairs(upsilon, layout),
        "position_position_self": over_positions(own, layout).squeeze(3),
    }
    for variable, values in truth.items():
        np.testing.assert_allclose(found[variable], values[0], atol=1e-14, err_msg=variable)


@pytest.mark.parametrize("name", ["one cluster, areas of one", "two clusters", "areas missing in one"])
@pytest.mark.parametrize("kind", ["mae", "cl", "mixture"])
def test_mean_attention_is_that_of_every_mask(name, kind, rng):
    symmetry, objective = Symmetry.of(LAYOUTS[name]), OBJECTIVES[kind]
    order = random_order(symmetry, rng)
    batch, visible = population(symmetry.layout, 3)
    drawn = CountedBatch(batch.cluster[0].numpy(), batch.latents[0].numpy(), (counted(symmetry, visible[0]),))
    rows = Rows(symmetry, symmetry.tables(order, 0), np.arange(len(symmetry.block_sizes)))
    attention, own = mean_attention(rows, drawn, objective)
    forward = forward_pass(embed(symmetry, order), batch, (visible, visible), {})
    shown, kept = batch.own_area_visible(visible), objective.loss_queries(forward)
    home = forward.attention[0].gather(2, batch.area[:, :, None])[:, :, 0]
    for cluster in range(symmetry.layout.clusters):
        drawn_here = (batch.cluster == cluster)[..., None]
        truth = sample_mean(forward.attention[0], kept & drawn_here)[0].T
        np.testing.assert_allclose(attention[cluster][symmetry.block], truth, atol=1e-13)
        truth = sample_mean(home, kept & drawn_here & shown)[0]
        np.testing.assert_allclose(own[cluster][symmetry.block], truth, atol=1e-13)


def test_a_seed_runs_alone_as_in_company_and_the_record_survives(tmp_path):
    spec = ExactReduction(
        layout=LAYOUTS["two clusters"], objective=Mixture(), steps=5, batch_size=4, seeds=(2, 7), frames=4
    )
    both, alone = descend(spec), descend(replace(spec, seeds=(7,)))
    assert both.dataset.isel(seed=[1]).equals(alone.dataset)
    assert Trajectory.load(both.save(tmp_path / "run.nc")).dataset.equals(both.dataset)
    assert both.spec["steps"] == 5
    assert both["step"].to_numpy()[[0, -1]].tolist() == [0, 5]


def test_a_run_that_diverges_says_so(monkeypatch):
    spec = ExactReduction(
        layout=LAYOUTS["two clusters"], objective=MaskedReconstruction(), steps=2, batch_size=4, seeds=1
    )
    monkeypatch.setattr(
        "vitdyn.reduced.exact_reduction.counted_gradient",
        lambda symmetry, order, *_, **__: order.map(lambda x: x / 0),
    )
    with pytest.raises(ArithmeticError, match="step 1: the order parameters are not finite"):
        descend(spec)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"objective": "mae"}, "objective"),
        ({"steps": -1}, "steps"),
        ({"batch_size": 0}, "batch_size"),
        ({"frames": 1}, "frames"),
        ({"queries": "some"}, "queries"),
        ({"seeds": (1, 1)}, "seeds"),
        ({"seeds": (-1,)}, "seeds"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"layout": "grid"}, "layout"),
        ({"objective": Contrastive(), "batch_size": 1}, "batch_size"),
    ],
)
def test_complaints_of_a_run(changes, field, complaint):
    good = {"layout": LAYOUTS["two clusters"], "objective": MaskedReconstruction()}
    with complaint(field):
        ExactReduction(**good | changes)


def test_complaints_of_the_gradient(complaint):
    symmetry, other = (Symmetry.of(LAYOUTS[name]) for name in ("two clusters", "areas missing in one"))
    generator, objective = PatchGenerator(layout=symmetry.layout), MaskedReconstruction()
    with complaint("generator.layout"):
        sampled_gradient(other, other.zeros(1), generator, objective, 4, (0,))
    with complaint("seeds"):
        sampled_gradient(symmetry, symmetry.zeros(2), generator, objective, 4, (0,))


def test_a_reduced_run_is_an_experiment_that_a_store_keeps(tmp_path):
    spec = ExactReduction(
        layout=LAYOUTS["two clusters"], objective=Mixture(), steps=3, batch_size=4, seeds=(2, 7)
    )
    experiment = Experiment(name="reduced", training=spec)
    again = Experiment.from_json(experiment.to_json())
    assert again == experiment and again.key == experiment.key
    assert replace(experiment, training=replace(spec, queries="all")).key != experiment.key
    store = ResultStore(tmp_path)
    first = store(experiment)
    assert store.path(experiment).is_file()
    assert store(experiment).dataset.equals(first.dataset)
    assert first.dataset.equals(described(descend(spec), experiment).dataset)
    about = first.dataset.attrs
    assert about["engine"] == "exact reduction, gradient descent" and about["machine"] == machine_name()
