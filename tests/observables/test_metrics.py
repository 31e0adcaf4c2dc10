"""Metrics along a run, against loops over images in the full space R^d (exact: float64 round-off)."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vitdyn.data import PatchBatch, PatchGenerator, PatchLayout, Uniform, orthonormal_basis
from vitdyn.data.masking import draw_visible
from vitdyn.dynamics import Schedule, Training, simulate
from vitdyn.experiments import Experiment
from vitdyn.metrics import attention_distance, homogeneity, lidar, mutual_information, rank_me
from vitdyn.models import Correlations
from vitdyn.models.reference import attend
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.observables import (
    METRICS,
    RECORD,
    Metric,
    MetricImages,
    image_representation,
    metric_observables,
    patch_representation,
)
from vitdyn.observables.metrics import MeasuredModel
from vitdyn.seeds import stream

LAYOUT = PatchLayout.from_sizes([[7, 5, 4], [9, 4, 2, 1]], grid=(4, 4), arrangement="contiguous")
GENERATOR = PatchGenerator(layout=LAYOUT, latents=Uniform(low=0.5, high=2.0))
IMAGES = MetricImages(mask_ratio=0.4, maps=3, objects=24, views=5)
ALL = metric_observables(images=IMAGES)


def measure(correlations, generator, seeds, images=IMAGES, names=tuple(METRICS)):
    """Every metric of models, by name."""
    seen = MeasuredModel(images, correlations, generator, seeds)
    return {name: Metric(name=name, images=images).of(seen) for name in names}


def model(rng, seeds, content=False):
    zeros = Correlations.zeros(LAYOUT, seeds, content_queries=content, dtype=torch.float64)
    return zeros.map(lambda block: 1.5 * torch.from_numpy(rng.standard_normal(tuple(block.shape))))


@pytest.mark.parametrize("content", [False, True], ids=["positions", "content"])
def test_representations_are_those_of_the_full_space(rng, make_problem, content):
    problem = make_problem(content=content)
    batch, visible = problem.batch, problem.views[0]
    basis = problem.basis
    maps = attend(problem.correlations, batch, visible)
    outputs = maps @ (batch.patches(basis) * visible[..., None])  # F_p in R^d
    coordinates = outputs @ basis.features.to(outputs).flatten(0, 1).T
    found = patch_representation(problem.correlations, batch, visible)
    assert torch.allclose(found, coordinates, atol=1e-10)
    pooled = image_representation(problem.correlations, batch, visible)
    assert torch.allclose(pooled, coordinates.mean(2), atol=1e-10)


def test_images_are_represented_a_few_at_a_time_alike(rng, make_problem, monkeypatch):
    problem = make_problem(samples=6)
    whole = image_representation(problem.correlations, problem.batch, problem.views[0])
    monkeypatch.setattr("vitdyn.observables.representation._AT_A_TIME", 1)
    again = image_representation(problem.correlations, problem.batch, problem.views[0])
    assert torch.allclose(whole, again, atol=1e-12)


def images_of(seed, count, views, ratio):
    """Draw what one seed's metrics see, one image after the other."""
    latents = GENERATOR.latents.sample(stream(seed, "metrics latents"), (count, LAYOUT.areas))
    shown = draw_visible(stream(seed, "metrics masks"), count * views, 16, round(16 * ratio))
    for image in range(count):
        cluster = image * LAYOUT.clusters // count
        drawn = latents[image] * (LAYOUT.sizes[cluster] > 0)
        for view in range(views):
            batch = PatchBatch(
                LAYOUT, (seed,), torch.tensor([[cluster]]), torch.from_numpy(drawn)[None, None]
            )
            yield cluster, drawn, batch, torch.from_numpy(shown[image * views + view])[None, None]


def test_metrics_of_maps_are_means_over_images(rng):
    correlations, seeds = model(rng, 2), (3, 8)
    found = measure(correlations, GENERATOR, seeds)
    basis = orthonormal_basis(LAYOUT, seed=2)
    for index, seed in enumerate(seeds):
        one = correlations.map(lambda block, index=index: block[index : index + 1])
        distances, information, likeness = [], [], []
        for _, _, batch, visible in images_of(seed, 3, 1, 0.4):
            (maps,) = attend(one, batch, visible)
            distances.append(float(attention_distance(maps, (4, 4)).value))
            information.append(float(mutual_information(maps).value))
            outputs = maps @ (batch.patches(basis)[0] * visible[0, ..., None])
            likeness.append(float(homogeneity(outputs, over="token").value))
        assert np.isclose(found["attention_distance"][index], np.mean(distances), rtol=1e-10)
        assert np.isclose(found["mutual_information"][index], np.mean(information), rtol=1e-10)
        assert np.isclose(found["token_similarity"][index], np.mean(likeness), rtol=1e-10)


@pytest.mark.parametrize("within", [True, False])
def test_metrics_of_images_are_read_off_embeddings_in_the_full_space(rng, within):
    correlations, seed = model(rng, 1), 4
    found = measure(correlations, GENERATOR, (seed,), replace(IMAGES, within_cluster=within))
    basis = orthonormal_basis(LAYOUT, seed=2)
    embeddings, clusters = [], []
    for cluster, _, batch, visible in images_of(seed, 24, 5, 0.4):
        outputs = attend(correlations, batch, visible) @ (batch.patches(basis) * visible[..., None])
        embeddings.append(outputs[0, 0].mean(0))
        clusters.append(cluster)
    views = torch.stack(embeddings).unflatten(0, (24, 5))
    of_image = np.array(clusters)[::5]
    groups = [of_image == 0, of_image == 1] if within else [of_image >= 0]
    expected = np.mean([float(lidar(views[torch.from_numpy(group)]).value) for group in groups])
    # round-off in directions without spread decides nothing at the limit, but moves a ratio of eigenvalues
    assert np.isclose(float(found["lidar"]), expected, rtol=1e-6)
    expected = np.mean([float(rank_me(views[torch.from_numpy(g)].flatten(0, 1)).value) for g in groups])
    assert np.isclose(float(found["rank_me"]), expected, rtol=1e-9)


def determination(features, latents):
    """R² of least squares with an intercept on the last third of the images, fitted on the others, by area."""
    x, count = np.column_stack([features, np.ones(len(features))]), 2 * len(features) // 3
    weight = np.linalg.lstsq(x[:count], latents[:count], rcond=1e-10)[0]
    truth = latents[count:]
    missed = ((truth - x[count:] @ weight) ** 2).sum(0)
    return 1 - missed / ((truth - truth.mean(0)) ** 2).sum(0)


def test_probes_are_fitted_within_a_cluster_and_tested_on_other_images(rng):
    correlations, seed = model(rng, 1), 4
    found = measure(correlations, GENERATOR, (seed,))
    basis, features, latents, clusters = orthonormal_basis(LAYOUT), [], [], []
    for index, (cluster, drawn, batch, visible) in enumerate(images_of(seed, 24, 5, 0.4)):
        if index % 5 == 0:  # the first view
            outputs = attend(correlations, batch, visible) @ (batch.patches(basis) * visible[..., None])
            features.append(outputs[0, 0].mean(0).numpy())
            latents.append(drawn)
            clusters.append(cluster)
    of_all, latents, clusters = np.array(features), np.array(latents), np.array(clusters)
    told = [
        determination(of_all[clusters == k], latents[clusters == k][:, : (LAYOUT.sizes[k] > 0).sum()])
        for k in (0, 1)
    ]
    assert np.isclose(float(found["global_r_squared"]), np.mean([each[0] for each in told]), rtol=1e-6)
    assert np.isclose(float(found["local_r_squared"]), np.mean([each[1:].mean() for each in told]), rtol=1e-6)


def test_high_frequencies_are_read_on_the_coordinates_of_the_images_own_areas(rng):
    correlations, seed = model(rng, 1), 3
    found = measure(correlations, GENERATOR, (seed,))
    amplitudes = []
    for cluster, drawn, batch, visible in images_of(seed, 3, 1, 0.4):
        (maps,) = attend(correlations, batch, visible)[0].numpy()
        area, shown = LAYOUT.area_of_patch[cluster], visible[0, 0].numpy()
        own = [
            maps[:, shown & (area == j)].sum(1) * drawn[j] for j in range((LAYOUT.sizes[cluster] > 0).sum())
        ]
        logs = [np.log(abs(np.fft.fft2(each.reshape(4, 4))) + 1e-6) for each in own]
        amplitudes.append(np.mean([each[1, 1] - each[0, 0] for each in logs]))  # Nyquist is never read
    assert np.isclose(float(found["high_frequency"]), np.mean(amplitudes), rtol=1e-9)


def test_a_probe_reads_latents_that_attention_keeps_and_none_that_it_drops():
    """Attention to the own area, for all queries and masks: F holds z_j C_j/P exactly. To the global area: nothing."""
    layout = PatchLayout.from_sizes([[8, 4, 4]], grid=(4, 4))
    generator = PatchGenerator(layout=layout)
    asked = MetricImages(mask_ratio=1 / 16, objects=60, views=2), METRICS_OF_IMAGES
    own = Correlations.zeros(layout, 1, content_queries=False, dtype=torch.float64)
    area = torch.from_numpy(layout.area_of_patch[0])
    own.feature_position[0, torch.arange(16), 0, area] = 80.0
    found = measure(own, generator, (0,), *asked)
    assert abs(float(found["local_r_squared"]) - 1) < 1e-9
    assert abs(float(found["global_r_squared"]) - 1) < 1e-9
    lost = Correlations.zeros(layout, 1, content_queries=False, dtype=torch.float64)
    lost.feature_position[0, :, 0, 0] = 80.0
    found = measure(lost, generator, (0,), *asked)
    assert float(found["local_r_squared"]) < 0.2
    assert abs(float(found["global_r_squared"]) - 1) < 1e-9
    assert abs(float(found["rank_me"]) - 1) < 1e-9


METRICS_OF_IMAGES = ("local_r_squared", "global_r_squared", "rank_me")


@pytest.mark.parametrize("objective", [MaskedReconstruction(), Contrastive()], ids=["mae", "cl"])
def test_a_run_records_them_and_a_seed_does_not_depend_on_its_neighbours(objective):
    training = Training(
        generator=GENERATOR, objective=objective, steps=6, batch_size=8, seeds=(0, 5),
        schedule=Schedule(spacing="explicit", steps=(2,)), observables=(*RECORD, *ALL),
    )  # fmt: skip
    together = simulate(training)
    alone = simulate(replace(training, seeds=(5,)))
    without = simulate(replace(training, observables=RECORD))
    for name, about in METRICS.items():
        values = together[name]
        assert values.dims == ("frame", "seed") and values.attrs["symbol"] == about.symbol
        assert np.isfinite(values.to_numpy()).all()
        assert np.array_equal(values.sel(seed=[5]), alone[name])
        assert name not in without.dataset
    assert np.array_equal(together["loss"], without["loss"])


def test_a_specification_goes_through_json():
    observables = ("loss", *ALL)
    training = Training(generator=GENERATOR, objective=MaskedReconstruction(), observables=observables)
    experiment = Experiment(name="measured", training=training)
    assert Experiment.from_json(experiment.to_json()) == experiment


def test_bad_metrics_are_refused(complaint):
    with complaint("names", "must be one of"):
        metric_observables(("speed",))
    with complaint("names", "must be a sequence"):
        metric_observables("lidar")
    with complaint("images", "must be a MetricImages"):
        metric_observables(("lidar",), 3)
    with complaint("MetricImages.views"):
        MetricImages(views=1)


@pytest.mark.parametrize(
    ("names", "changes", "grid", "field"),
    [
        (("attention_distance",), {}, None, "observables"),
        (("high_frequency",), {}, (2, 8), "observables"),
        (("high_frequency",), {}, (1, 16), "observables"),
        (("lidar",), {"objects": 8}, (4, 4), "MetricImages.objects"),
        (("lidar",), {"mask_ratio": 0.01}, (4, 4), "mask_ratio"),
    ],
)
def test_metrics_that_a_layout_does_not_have_are_refused(names, changes, grid, field, complaint):
    layout = PatchLayout.from_sizes([[7, 5, 4], [9, 4, 2, 1]], grid=grid)
    with complaint(field):
        Training(
            generator=PatchGenerator(layout=layout),
            objective=MaskedReconstruction(),
            observables=metric_observables(names, MetricImages(**changes)),
        )


def spoilt(correlations, value):
    """The second of two seeds with one entry of Φ that is ``value``."""
    changed = correlations.map(torch.clone)
    changed.feature_position[1, 2, 0, 0] = value
    return changed


@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_seed_that_is_not_finite_has_nan_and_leaves_the_others_alone(rng, within, value):
    correlations, images = model(rng, 2), replace(IMAGES, within_cluster=within)
    expected = measure(correlations, GENERATOR, (0, 1), images)
    found = measure(spoilt(correlations, value), GENERATOR, (0, 1), images)
    for name in METRICS:
        assert found[name][1].isnan(), name
        assert torch.equal(found[name][0], expected[name][0]), name


def test_a_model_at_the_end_of_the_range_ends_nothing(rng):
    """Correlations that are finite while their sums are not: a frame of the step before a run is stopped."""
    huge = model(rng, 1).map(lambda block: 1e308 * block.sign())
    found = measure(huge, GENERATOR, (0,))
    assert set(found) == set(METRICS)
    assert found["attention_entropy"].isnan().all()


class Nothing(Uniform):
    """Latents that are all 0."""

    def sample(self, rng, shape):
        return np.zeros(shape)


def test_images_of_nothing_have_no_high_frequency(rng):
    generator = PatchGenerator(layout=LAYOUT, latents=Nothing(low=0.0, high=2.0))
    names = ("high_frequency", "token_similarity", "lidar")
    found = measure(model(rng, 1), generator, (0,), names=names)
    assert found["high_frequency"].tolist() == [0]
    assert found["token_similarity"].isnan().all()
    assert found["lidar"].tolist() == [0]


def test_high_frequencies_of_a_rectangular_grid(rng):
    layout = PatchLayout.from_sizes([[10, 8]], grid=(3, 6))
    generator = PatchGenerator(layout=layout, latents=Uniform(low=0.5, high=2.0))
    images, names = MetricImages(maps=2, mask_ratio=1 / 3), ("high_frequency",)
    zeros = Correlations.zeros(layout, 1, content_queries=False, dtype=torch.float64)
    correlations = zeros.map(lambda block: torch.from_numpy(rng.standard_normal(tuple(block.shape))))
    Metric(name="high_frequency", images=images).check(layout)
    batch, visible = images.draw(generator, (0,), correlations.position_position, 2, views=1)
    (tokens,) = patch_representation(correlations, batch, visible).numpy()
    spectrum = np.log(np.abs(np.fft.fft2(tokens.transpose(0, 2, 1).reshape(2, 2, 3, 6))) + 1e-6)
    expected = (spectrum[..., 1, 2] - spectrum[..., 0, 0]).mean()
    found = measure(correlations, generator, (0,), images, names)["high_frequency"]
    assert np.isclose(float(found), expected, rtol=1e-9)


@pytest.mark.parametrize(
    "changes",
    [
        {"mask_ratio": "0.5"},
        {"mask_ratio": np.nan},
        {"maps": True},
        {"objects": 24.0},
        {"within_cluster": "no"},
        {"within_cluster": None},
    ],
)
def test_fields_of_other_kinds_are_refused(changes, complaint):
    (field,) = changes
    with complaint(f"MetricImages.{field}"):
        replace(IMAGES, **changes)
