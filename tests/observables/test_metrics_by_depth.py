"""Metrics of any model, and by layer and head: against the layer's, and against loops over images (exact)."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

import vitdyn as vd
from vitdyn.cli import catalogue
from vitdyn.metrics import attention_distance, attention_entropy, homogeneity, mutual_information, rank_me
from vitdyn.observables import BY_DEPTH, METRICS, DepthMetric, Metric, MetricImages, depth_observables
from vitdyn.observables.metrics import MeasuredModel

LAYOUT = vd.PatchLayout.from_sizes([[7, 5, 4], [9, 4, 2, 1]], grid=(4, 4), arrangement="contiguous")
GENERATOR = vd.PatchGenerator(layout=LAYOUT, latents=vd.Uniform(low=0.5, high=2.0))
IMAGES = MetricImages(mask_ratio=0.4, maps=3, objects=24, views=3)
DEEP = vd.Transformer(layers=2, heads=2, residual=True, initial_scale=1.0)
SEEDS = (3, 8)


def measured(parameters, model):
    return MeasuredModel(IMAGES, parameters, GENERATOR, SEEDS, model)


@pytest.fixture
def layer(rng):
    zeros = vd.Correlations.zeros(LAYOUT, 2)
    return zeros.map(lambda block: 1.5 * torch.from_numpy(rng.standard_normal(tuple(block.shape))))


@pytest.fixture
def deep():
    streams = vd.seeds.Streams(SEEDS, "model")
    return measured(DEEP.initial(GENERATOR, streams, torch.zeros((), dtype=torch.float64)), DEEP)


def test_one_layer_written_plainly_has_the_metrics_of_the_layer(layer):
    expected, (seeds, patches, *_) = measured(layer, vd.OneLayer()), layer.feature_position.shape
    plain = vd.Parameters(
        feature_position=layer.feature_position.reshape(seeds, 1, 1, patches, -1),
        position_position=layer.position_position[:, None, None],
    )
    found = measured(plain, vd.Transformer())
    for name in METRICS:
        metric = Metric(name=name, images=IMAGES)
        torch.testing.assert_close(metric.of(found), metric.of(expected), rtol=1e-7, atol=1e-10)
    assert DepthMetric(name="head_similarity", images=IMAGES).of(expected).isnan().all()
    for name, whole in (
        ("head_attention_distance", "attention_distance"),
        ("head_mutual_information", "mutual_information"),
        ("head_attention_entropy", "attention_entropy"),
        ("stream_similarity", "token_similarity"),
        ("stream_high_frequency", "high_frequency"),
    ):
        by_depth = DepthMetric(name=name, images=IMAGES).of(expected)
        torch.testing.assert_close(by_depth.flatten(), Metric(name=whole, images=IMAGES).of(expected))


def test_heads_and_streams_are_measured_one_by_one(deep):
    found = {name: DepthMetric(name=name, images=IMAGES).of(deep) for name in BY_DEPTH}
    maps, streams = deep.maps, deep.streams
    batch, visible = deep._few
    assert maps.shape == (2, 3, 2, 2, 16, 16) and streams.shape == (2, 3, 2, 16, 8)
    torch.testing.assert_close(streams[:, :, -1], DEEP.outputs(deep.parameters, batch, visible))
    for s, m in product(range(2), range(2)):
        tokens = [streams[s, image, m] for image in range(3)]
        likeness = np.mean([float(homogeneity(each, over="token").value) for each in tokens])
        assert float(found["stream_similarity"][s, m]) == pytest.approx(likeness, rel=1e-10)
        rank = np.mean([float(rank_me(each).value) for each in tokens])
        assert float(found["stream_rank"][s, m]) == pytest.approx(rank, rel=1e-10)
        last = [streams[s, image, -1] for image in range(3)]
        alike = [torch.cosine_similarity(*pair, dim=-1).mean() for pair in zip(tokens, last, strict=True)]
        assert float(found["stream_to_last"][s, m]) == pytest.approx(np.mean(alike), rel=1e-10)
        alike = torch.cosine_similarity(maps[s, :, m, 0], maps[s, :, m, 1], dim=-1).mean()
        assert float(found["head_similarity"][s, m]) == pytest.approx(float(alike), rel=1e-10)
        for h in range(2):
            own = [maps[s, image, m, h] for image in range(3)]
            for name, measure in (
                ("head_attention_distance", lambda each: attention_distance(each, (4, 4))),
                ("head_mutual_information", mutual_information),
                ("head_attention_entropy", attention_entropy),
            ):
                expected = np.mean([float(measure(each).value) for each in own])
                assert float(found[name][s, m, h]) == pytest.approx(expected, rel=1e-10)
    # of the whole model: the last layer's heads
    whole = Metric(name="attention_entropy", images=IMAGES).of(deep)
    torch.testing.assert_close(whole, found["head_attention_entropy"][:, -1].mean(-1))


def test_embeddings_are_taken_a_few_at_a_time_alike(deep, monkeypatch):
    batch, visible = deep._many
    monkeypatch.setattr("vitdyn.observables.representation._AT_A_TIME", 2**12)
    expected = DEEP.outputs(deep.parameters, batch, visible).mean(2)
    torch.testing.assert_close(deep.features.flatten(1, 2), expected)


def test_a_run_records_them_and_a_seed_does_not_depend_on_its_neighbours():
    asked = ("loss", *vd.metric_observables(images=IMAGES), *depth_observables(IMAGES))
    training = vd.Training(
        generator=GENERATOR, objective=vd.Contrastive(), model=DEEP, steps=2, batch_size=4,
        evaluation_samples=4, seeds=SEEDS, schedule=vd.Schedule(spacing="explicit"), observables=asked,
    )  # fmt: skip
    together, alone = vd.simulate(training), vd.simulate(replace(training, seeds=(8,)))
    for each in training.observables[1:]:
        assert together[each.name].dims == ("frame", *each.axes)
        assert np.isfinite(together[each.name]).all()
        np.testing.assert_array_equal(together[each.name].sel(seed=[8]), alone[each.name])
    experiment = vd.Experiment(name="deep", training=training)
    assert vd.Experiment.from_json(experiment.to_json()) == experiment
    described = {each.name: each.text for each in catalogue.metrics()}
    assert described.items() >= {name: each.meaning for name, each in BY_DEPTH.items()}.items()


class Blind(vd.Transformer):
    """A model without maps or streams."""

    offers = frozenset()


@pytest.mark.parametrize("name", ["attention_entropy", "head_attention_entropy", "stream_rank"])
def test_what_a_model_lacks_is_refused_before_work_starts(name, complaint):
    with complaint("observables", "which blind lacks"):
        vd.Training(generator=GENERATOR, objective=vd.Contrastive(), model=Blind(), observables=(name,))
    vd.Training(generator=GENERATOR, objective=vd.Contrastive(), model=Blind(), observables=("lidar",))


def test_a_seed_that_is_not_finite_has_nan(deep):
    parameters = deep.parameters.map(torch.clone)
    parameters.feature_position[1, 0, 0, 0, 0] = torch.nan
    spoilt = replace(deep, parameters=parameters)
    for name in BY_DEPTH:
        metric = DepthMetric(name=name, images=IMAGES)
        assert metric.of(spoilt)[1].isnan().all() and torch.equal(metric.of(spoilt)[0], metric.of(deep)[0])


def test_bad_names_and_layouts_are_refused(complaint):
    with complaint("DepthMetric.name", "must be one of"):
        DepthMetric(name="width")
    bare = replace(GENERATOR, layout=vd.PatchLayout.from_sizes([7, 5, 4]))
    with complaint("observables", "needs patches on a grid"):
        vd.Training(generator=bare, objective=vd.Contrastive(), observables=("head_attention_distance",))
