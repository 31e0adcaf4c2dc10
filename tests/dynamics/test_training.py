"""The specification of a run, its schedule and its batches (exact)."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitdyn._specs import to_text
from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import GradientDescent, Schedule, Training, simulate
from vitdyn.experiments import Experiment
from vitdyn.models import Correlations
from vitdyn.objectives import MaskedReconstruction


def rows(batch, seed=0):
    """Each sample as one row of numbers: its cluster and its latents."""
    return [(int(k), *z.tolist()) for k, z in zip(batch.cluster[seed], batch.latents[seed], strict=True)]


class TestSchedule:
    @pytest.mark.parametrize(
        ("schedule", "last", "steps"),
        [
            (Schedule(spacing="linear", frames=5), 12, (0, 3, 6, 9, 12)),
            (Schedule(spacing="linear", frames=48), 3, (0, 1, 2, 3)),
            (Schedule(spacing="logarithmic", frames=5), 1000, (0, 1, 10, 100, 1000)),
            (Schedule(spacing="logarithmic", frames=2), 9, (0, 1, 9)),
            (Schedule(spacing="explicit", steps=(7, 2)), 9, (0, 2, 7, 9)),
            (Schedule(spacing="explicit"), 9, (0, 9)),
            (Schedule(spacing="explicit", steps=(0, 9)), 9, (0, 9)),
            *((Schedule(spacing=spacing), 0, (0,)) for spacing in ("linear", "logarithmic", "explicit")),
        ],
    )
    def test_recorded_steps(self, schedule, last, steps):
        assert schedule.recorded_steps(last) == steps

    @pytest.mark.parametrize("spacing", ["linear", "logarithmic"])
    @pytest.mark.parametrize("last", [1, 2, 47, 400, 100_000])
    def test_at_most_as_many_frames_as_asked_and_the_start(self, spacing, last):
        steps = Schedule(spacing=spacing, frames=40).recorded_steps(last)
        assert steps[0] == 0
        assert steps[-1] == last
        assert list(steps) == sorted(set(steps))
        assert len(steps) <= 41
        assert all(type(step) is int for step in steps)

    @pytest.mark.parametrize(
        ("fields", "field", "remedy"),
        [
            ({"spacing": "cubic"}, "Schedule.spacing", "must be one of linear, logarithmic, explicit"),
            ({"frames": 1}, "Schedule.frames", "2 or more"),
            ({"spacing": "explicit", "steps": (3, -1)}, "Schedule.steps", "0 or more"),
            ({"spacing": "explicit", "steps": (0.5,)}, "Schedule.steps", "whole number"),
            ({"steps": (3,)}, "Schedule.steps", "only with spacing='explicit'"),
        ],
    )
    def test_bad_fields_are_named(self, fields, field, remedy, complaint):
        with complaint(field, remedy):
            Schedule(**fields)

    def test_a_step_beyond_the_run_is_named(self, complaint, make_training):
        with complaint("Schedule.steps", "the run has 12 steps"):
            make_training(schedule=Schedule(spacing="explicit", steps=(13,)))


class TestTraining:
    @pytest.mark.parametrize(
        ("field", "value", "remedy"),
        [
            ("generator", None, "must be a PatchGenerator"),
            ("objective", "mae", "must be an Objective: one of MaskedReconstruction, SimMIM"),
            ("objective", MaskedReconstruction, "must be an Objective"),
            ("optimizer", 0.1, "must be one of GradientDescent, Momentum, Adam"),
            ("steps", -1, "0 or more"),
            ("steps", 1.5, "whole number"),
            ("batch_size", 0, "1 or more"),
            ("batch_size", True, "whole number"),
            ("evaluation_samples", 0, "1 or more"),
            ("precision", "float16", "must be one of float32, float64"),
            ("dataset_size", 0, "1 or more"),
            ("dataset_size", 5, "must hold the 6 samples"),
            ("seeds", 0, "1 or more"),
            ("seeds", (), "at least one seed, and each once"),
            ("seeds", (1, 1), "at least one seed, and each once"),
            ("seeds", (1, -2), "0 or more"),
            ("seeds", 2.0, "whole number"),
        ],
    )
    def test_bad_fields_are_named(self, field, value, remedy, make_training, complaint):
        with complaint(field, remedy):
            replace(make_training(), **{field: value})

    def test_what_the_objective_cannot_do_is_named_at_once(self, make_training, complaint):
        with complaint("mask_ratio", "at least one must be masked"):
            make_training(MaskedReconstruction(mask_ratio=0.01))
        for field in ("batch_size", "evaluation_samples"):
            with complaint("batch_size", "compares the samples of a batch: at least 2"):
                make_training("cl", **{field: 1})

    def test_seeds_are_a_count_or_a_list(self, make_training):
        assert make_training(seeds=3).seed_numbers == (0, 1, 2)
        assert make_training(seeds=(9, 4)).seed_numbers == (9, 4)

    @pytest.mark.parametrize("objective", ["mae", "cl"])
    def test_the_default_rule_is_the_objectives(self, objective, make_training):
        training = make_training(objective)
        rate = training.objective.default_learning_rate(training.generator.layout)
        assert training.resolved_optimizer == GradientDescent(learning_rate=rate)
        named = make_training(objective, optimizer=GradientDescent(learning_rate=0.7))
        assert named.optimizer.learning_rate == 0.7


class TestBatches:
    def test_fresh_samples_differ_from_step_to_step(self, make_training, source_of):
        source = source_of(make_training())
        drawn = [row for step in range(20) for row in rows(source.training(step, source.dataset())[0])]
        assert len(set(drawn)) == len(drawn) == 120

    def test_minibatches_come_from_the_data_set_each_sample_once(self, make_training, source_of):
        training = make_training(dataset_size=9)
        source = source_of(training)
        data = source.dataset()
        assert data.latents.shape[:2] == (2, 9)
        for seed in range(2):
            known = set(rows(data, seed))
            assert len(known) == 9
            met, subsets = set(), set()
            for step in range(30):
                batch, _ = source.training(step, data)
                picked = rows(batch, seed)
                assert len(set(picked)) == len(picked) == training.batch_size
                assert set(picked) <= known
                met |= set(picked)
                subsets.add(tuple(picked))
            assert met == known
            assert len(subsets) >= 15  # of C(9, 6) = 84, drawn 30 times: 25 on average

    def test_the_whole_set_as_a_batch(self, make_training, source_of):
        source = source_of(make_training(dataset_size=6))
        data = source.dataset()
        assert sorted(rows(source.training(3, data)[0])) == sorted(rows(data))

    @pytest.mark.parametrize("size", [None, 8])
    def test_samples_come_in_the_order_of_their_clusters(self, size, make_training, source_of):
        source = source_of(make_training(dataset_size=size))
        clusters = torch.cat([source.training(step, source.dataset())[0].cluster for step in range(9)])
        assert (clusters.diff(dim=1) >= 0).all()
        assert len({tuple(row) for row in clusters.tolist()}) > 2

    @pytest.mark.parametrize("size", [None, 8])
    def test_masks_are_drawn_anew_at_every_step(self, size, make_training, source_of):
        source = source_of(make_training("cl", dataset_size=size))
        views = [source.training(step, source.dataset())[1] for step in range(6)]
        assert all(view.shape == (2, 6, 11) for pair in views for view in pair)
        assert len({view.numpy().tobytes() for pair in views for view in pair}) == 12

    @pytest.mark.parametrize("size", [None, 8])
    def test_evaluation_sees_what_training_never_does(self, size, make_training, source_of):
        source = source_of(make_training(dataset_size=size))
        data = source.dataset()
        trained, masks = set(), set()
        for step in range(13):
            batch, (view,) = source.training(step, data)
            trained |= set(rows(batch))
            masks |= {row.numpy().tobytes() for row in view[0]}
        for step in range(13):
            batch, (view,) = source.evaluation(step, 5)
            assert not trained & set(rows(batch))
            assert view.shape == (2, 5, 11)
            assert any(row.numpy().tobytes() not in masks for row in view[0])

    @pytest.mark.parametrize("size", [None, 8])
    def test_a_seed_draws_alone_what_it_draws_with_others(self, size, make_training, source_of):
        training = make_training("cl", dataset_size=size)
        together, alone = (source_of(replace(training, seeds=seeds)) for seeds in ((3, 8), (8,)))
        (batch, views), (other, masks) = (
            source.training(4, source.dataset()) for source in (together, alone)
        )
        assert rows(batch, 1) == rows(other, 0)
        assert all(torch.equal(view[1], mask[0]) for view, mask in zip(views, masks, strict=True))

    def test_a_run_on_a_data_set_sees_no_other_sample(self, make_training, monkeypatch):
        sampled, sample = [], PatchGenerator.sample

        def noting(self, count, seeds, **options):
            sampled.append((count, options.get("purpose", ""), options.get("step", 0)))
            return sample(self, count, seeds, **options)

        monkeypatch.setattr(PatchGenerator, "sample", noting)
        simulate(make_training(dataset_size=9))
        assert sampled[0] == (9, "data set ", 0)
        assert {purpose for _, purpose, _ in sampled[1:]} == {"evaluation "}
        assert [step for *_, step in sampled[1:]] == [0, 3, 6, 9, 12]


def test_a_data_set_changes_the_run(make_training):
    """The same start on the same evaluation samples, and from the first step on another run."""
    training = make_training(dataset_size=6, seeds=(1,))
    first, second = (simulate(training)["loss"].to_numpy() for _ in range(2))
    np.testing.assert_array_equal(first, second)
    fresh = simulate(replace(training, dataset_size=None))["loss"].to_numpy()
    assert first[0, 0] == fresh[0, 0]
    assert (first[1:] != fresh[1:]).all()


def test_training_is_a_plain_value(make_training):
    assert make_training() == make_training()
    assert hash(make_training()) == hash(make_training())
    assert isinstance(make_training(), Training)


@pytest.mark.parametrize(
    "seeds", [range(2), [0, 1], np.arange(2), torch.arange(2), (np.int64(0), np.int64(1))]
)
def test_seeds_come_as_any_sequence(seeds, make_training):
    """They are kept as plain numbers, so that specifications can be compared, hashed and written down."""
    training = make_training(seeds=seeds)
    assert training == make_training(seeds=(0, 1)) and training.seed_numbers == (0, 1)
    assert to_text(training) == to_text(make_training(seeds=(0, 1)))


@pytest.mark.parametrize("value", ["no", "false", 0, 1, None, [], np.array([True, False])])
def test_truth_values_are_truth_values(value, make_training, complaint):
    with complaint("content_queries", "True or False"):
        make_training(content_queries=value)
    text = json.loads(Experiment(name="a", training=make_training()).to_json())
    text["training"]["content_queries"] = "false"
    with complaint("content_queries", "True or False"):
        Experiment.from_json(json.dumps(text))


def test_a_start_must_fit(make_training, complaint):
    training = make_training()
    layout = training.generator.layout
    zeros = Correlations.zeros(layout, 1)
    other = Correlations.zeros(PatchLayout.from_sizes([20, 3, 3]), 1)
    broken = zeros.map(lambda block: block + np.nan)
    content = Correlations.zeros(layout, 1, content_queries=True)
    for start, field in (
        (other, "start.feature_position"),
        (broken, "start.feature_position"),
        (content, "start"),
        ("zeros", "start"),
    ):
        with complaint(field):
            simulate(training, start=start)


def test_a_number_of_seeds_is_no_list_of_them(complaint):
    generator = PatchGenerator(layout=PatchLayout.from_sizes([3, 2]))
    with complaint("seeds", "a sequence of whole numbers"):
        generator.sample(4, seeds=0)
    assert (
        generator.sample(4, seeds=range(3)).seeds
        == generator.sample(4, seeds=np.arange(3)).seeds
        == (0, 1, 2)
    )
    with complaint("dtype", "floating-point"):
        generator.sample(4, seeds=(0,), dtype=torch.int64)


WRONG_BATCHES = {
    "nothing": (lambda batch: None, ""),
    "a tuple": (lambda batch: (batch.cluster, batch.latents), ""),
    "another layout's": (lambda batch: replace(batch, layout=PatchLayout.from_sizes([9, 2])), ""),
    "other seeds'": (lambda batch: replace(batch, seeds=(7,)), ""),
    "too few samples": (lambda batch: batch.part(slice(1)), ".cluster"),
    "too few latents": (lambda batch: replace(batch, latents=batch.latents[:, 1:]), ".latents"),
    "an area too few": (lambda batch: replace(batch, latents=batch.latents[..., 1:]), ".latents"),
    "latents of another type": (lambda batch: replace(batch, latents=batch.latents.half()), ".latents"),
    "latents in numpy": (lambda batch: replace(batch, latents=batch.latents.numpy()), ".latents"),
    "no such cluster": (lambda batch: replace(batch, cluster=batch.cluster + 5), ".cluster"),
    "clusters that are fractions": (lambda batch: replace(batch, cluster=batch.cluster * 0.5), ".cluster"),
    "latents that are not finite": (lambda batch: replace(batch, latents=batch.latents / 0), ".latents"),
    "noise of one coordinate": (
        lambda batch: replace(batch, noise=torch.ones_like(batch.area[..., None], dtype=batch.latents.dtype)),
        ".noise",
    ),
    "no such feature": (
        lambda batch: replace(batch, area_feature=torch.full_like(batch.latents, 9, dtype=torch.int64)),
        ".area_feature",
    ),
    "a position twice": (
        lambda batch: replace(batch, layout_position=torch.zeros_like(batch.area)),
        ".layout_position",
    ),
}


@pytest.mark.parametrize("dataset_size", [None, 8])
@pytest.mark.parametrize("name", WRONG_BATCHES)
def test_a_generator_of_ones_own_must_return_what_it_was_asked_for(
    name, dataset_size, make_training, complaint
):
    """It was an IndexError, from deep in a step, or a run of fewer samples than were asked for."""
    change, part = WRONG_BATCHES[name]

    class Own(PatchGenerator):
        def sample(self, *arguments, **options):
            return change(super().sample(*arguments, **options))

    plain = make_training(steps=1, batch_size=4, evaluation_samples=4, dataset_size=dataset_size)
    with complaint(f"Own.sample{part}"):
        simulate(replace(plain, generator=Own(layout=plain.generator.layout)))
