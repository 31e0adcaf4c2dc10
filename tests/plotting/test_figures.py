"""Figures: what is drawn is what the trajectory holds, and the same drawing gives the same bytes. Exact."""

import csv
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

from vitdyn.data import PatchGenerator, PatchLayout, Uniform
from vitdyn.dynamics import Schedule, Training, simulate
from vitdyn.models import Transformer
from vitdyn.objectives import Contrastive, MaskedReconstruction
from vitdyn.plotting import (
    Column,
    Drawing,
    Photograph,
    draw_data,
    draw_dynamics,
    draw_photographs,
    save_figure,
    summary_page,
)
from vitdyn.plotting.areas import draw_outlines, middle_cell, rendered
from vitdyn.plotting.curves import PAIRS, by_pair
from vitdyn.plotting.drawing import COLUMNS, PICTURE_DPI
from vitdyn.plotting.dynamics import phase_marks
from vitdyn.theory import Prediction

torch.set_num_threads(1)

OBJECTIVES = {"mae": MaskedReconstruction(), "cl": Contrastive()}
SIZES = {1: [10, 8, 5, 1], 2: [[12, 6, 6], [10, 8, 5, 1]]}


def tiny(objective="mae", clusters=1, steps=6, seeds=3, **options):
    layout = PatchLayout.from_sizes(SIZES[clusters], seed=1)
    return Training(
        generator=PatchGenerator(layout=layout), objective=OBJECTIVES[objective], steps=steps, batch_size=8,
        seeds=seeds,
        evaluation_samples=8, schedule=Schedule(frames=5), **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trajectory():
    return simulate(tiny(clusters=2))


def columns_of(trajectory):
    level = Prediction(symbol="φ_a", low=0.1, high=0.2, statement="", source="", note="")
    return [Column(title="Δ > 0", trajectory=trajectory, predictions={"local to own": level})] * 2


def table(drawing):
    drawing.figure.draw_without_rendering()
    return [dict(zip(COLUMNS, row, strict=True)) for row in drawing.table()]


def curve(rows, panel, series):
    chosen = [row for row in rows if (row["panel"], row["series"]) == (panel, series)]
    return np.array(
        [[float(row[name] or "nan") for name in ("x", "value", "low", "high")] for row in chosen]
    ).T


def test_a_figure_is_saved_in_three_forms(trajectory, tmp_path, monkeypatch):
    monkeypatch.setattr("vitdyn.plotting.drawing.PICTURE_DPI", PICTURE_DPI)  # not the tests' own
    drawing = draw_dynamics(columns_of(trajectory))
    made = save_figure(drawing, tmp_path / "deep" / "a-figure.v2")
    assert made == tmp_path / "deep" / "a-figure.v2.pdf"
    assert sorted(path.name for path in made.parent.iterdir()) == [
        f"a-figure.v2.{kind}" for kind in ("csv", "pdf", "png")
    ]
    assert made.read_bytes().startswith(b"%PDF")
    with Image.open(made.with_name("a-figure.v2.png")) as picture:
        assert picture.width >= 200 * drawing.figure.get_size_inches()[0]
    with made.with_name("a-figure.v2.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == table(drawing)


def test_drawing_twice_gives_the_same_bytes(trajectory, tmp_path):
    for name in ("first", "second"):
        drawing = draw_dynamics(columns_of(trajectory))
        save_figure(drawing, tmp_path / name)
    for kind in ("pdf", "png", "csv"):
        assert (tmp_path / f"first.{kind}").read_bytes() == (tmp_path / f"second.{kind}").read_bytes()
    assert drawing._repr_png_()[0] == (tmp_path / "second.png").read_bytes()  # what a notebook shows


def test_a_folder_that_cannot_be_written_is_said_in_one_line(complaint, tmp_path):
    (tmp_path / "file").touch()
    with complaint("out"):
        save_figure(Drawing.of_size(1, 1), tmp_path / "file" / "figure")


def test_the_numbers_of_the_dynamics_are_the_trajectorys(trajectory):
    rows = table(draw_dynamics(columns_of(trajectory)))
    phi = trajectory["feature_position"].sel(statistic="mean").to_numpy().astype(float)
    to_global = np.array([phi[:, :, k, i, 0] for k, i in [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3)]]).mean(0)
    to_own = np.array([phi[:, :, k, i, i] for k, i in [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3)]]).mean(0)
    for panel in "ab":
        for series, values in (("local to global", to_global), ("local to own", to_own)):
            expected = [trajectory["step"], np.median(values, 1), values.min(1), values.max(1)]
            np.testing.assert_allclose(curve(rows, panel, series), expected, rtol=1e-12, atol=1e-15)
    own = trajectory["own_area_attention"].sel(statistic="mean").to_numpy().astype(float)[..., 0].mean(2)
    np.testing.assert_allclose(curve(rows, "e", "global to own")[1], np.median(own, 1), rtol=1e-12)
    least = np.nanmin(trajectory["own_area_attention"].sel(statistic="minimum").to_numpy(), axis=(2, 3))
    np.testing.assert_allclose(
        curve(rows, "f", "least to own")[1], np.median(least.astype(float), 1), rtol=1e-12
    )
    levels = [row for row in rows if row["series"] == "predicted local to own"]
    assert [(row["panel"], row["low"], row["high"]) for row in levels] == [
        ("a", "0.1", "0.2"),
        ("b", "0.1", "0.2"),
    ]


def test_the_clock_can_be_time(trajectory):
    drawing = draw_dynamics(columns_of(trajectory), target="global", clock="time")
    rows = table(drawing)
    np.testing.assert_allclose(curve(rows, "a", "local to own")[0], trajectory["time"])
    least = (
        trajectory["area_attention"].sel(statistic="minimum").isel(key_area=0).min(("cluster", "query_area"))
    )
    np.testing.assert_allclose(
        curve(rows, "f", "least to global")[1], least.astype(float).median("seed"), rtol=1e-12
    )


def test_what_does_not_exist_is_drawn_as_nothing():
    two_areas = Training(
        generator=PatchGenerator(layout=PatchLayout.from_sizes([6, 4])),
        objective=Contrastive(),
        steps=2,
        batch_size=4,
        seeds=2,
    )
    trajectory = simulate(two_areas)
    assert np.isnan(by_pair(trajectory, "feature_position", "local to other")).all()
    assert not any(
        np.isnan(by_pair(trajectory, "feature_position", pair)).any()
        for pair in PAIRS
        if pair != "local to other"
    )
    draw_dynamics([Column(title="two areas", trajectory=trajectory)])


def test_phases_are_marked_only_in_their_order():
    falling, rising = np.array([0.0, -0.9, -1.1, -1.2]), np.array([0.0, 0.1, 0.2, 6.0])
    assert phase_marks(falling, rising) == (2, 3)
    assert phase_marks(falling, np.array([0.0, 4.0, 5.0, 6.0])) == ()
    assert phase_marks(-falling, rising) == ()


@pytest.mark.parametrize(
    "options",
    [
        {"objective": "mae", "clusters": 1},
        {"objective": "cl", "clusters": 2},
        {"objective": "mae", "clusters": 2, "content_queries": True},
        {"objective": "cl", "clusters": 1, "content_queries": True, "seeds": 1},
        {"objective": "mae", "clusters": 1, "steps": 0},
        {"objective": "cl", "clusters": 1, "model": Transformer(heads=2, initial_scale=0.5)},
    ],
    ids=str,
)
def test_every_run_has_a_summary_page(options):
    run = simulate(tiny(**options))
    rows = table(summary_page(run))
    loss = run["loss"].to_numpy().astype(float)
    np.testing.assert_allclose(
        curve(rows, "c", "loss"), [run["step"], np.median(loss, 1), loss.min(1), loss.max(1)], rtol=1e-12
    )
    matrix = run.final["area_attention"].sel(statistic="mean").isel(cluster=0).to_numpy().astype(float)
    exists = (
        run.final["area_attention"]
        .sel(statistic="mean")
        .isel(cluster=0, seed=0, query_area=0)
        .notnull()
        .to_numpy()
    )
    expected = np.median(matrix, 0)[np.ix_(exists, exists)]
    drawn = np.full(expected.shape, -1.0)
    for row in rows:
        if row["panel"] == "e":
            drawn[int(row["y"]), int(row["x"])] = float(row["value"] or "nan")
    np.testing.assert_array_equal(drawn, expected)
    assert {row["panel"] for row in rows} == set("abcdef")
    assert any(row["series"].startswith("Ψ") for row in rows) == options.get("content_queries", False)


def test_a_page_says_what_was_not_recorded_and_which_model_ran():
    model = Transformer(heads=2, initial_scale=0.5)
    asked = tiny(steps=2, model=model)
    noisy = replace(asked.generator, noise=0.1)
    run = simulate(replace(asked, generator=noisy, observables=("loss", "reconstruction_error")))
    page = summary_page(run)
    shown = [text.get_text() for axes in page.figure.axes for text in axes.texts]
    assert shown.count("not recorded: area attention") == 2 and len(shown) == 4
    words = " ".join(text.get_text() for part in page.figure.subfigs for text in part.texts)
    words = " ".join(words.split())
    assert "What a Transformer learned" in words and "heads 2" in words and "; noise 0.1" in words


def test_the_page_says_what_was_run():
    page = summary_page(simulate(tiny("cl", steps=2, dataset_size=8)))
    words = " ".join(text.get_text() for part in page.figure.subfigs for text in part.texts)
    for expected in (
        "contrastive",
        "P = 24, K = 1, N = 4",
        "temperature 1.0",
        "2 steps",
        "a data set of 8",
        "3 seeds",
    ):
        assert expected in " ".join(words.split())


def test_data_are_drawn_as_they_are():
    layout = PatchLayout.from_sizes([10, 6], clusters=2, grid=(4, 4), arrangement="contiguous")
    batch = PatchGenerator(layout=layout, latents=Uniform()).sample(1, (3,))
    views = [np.arange(16) % 2 == 0, np.arange(16) < 8, np.arange(16) >= 8]
    cluster, patch_latent = int(batch.cluster[0, 0]), batch.patch_latent[0, 0].numpy()
    image = batch.images(patch_size=2)[0, 0].numpy()
    drawing = draw_data(layout, cluster=cluster, image=image, patch_latent=patch_latent, views=views)
    rows = table(drawing)

    def values(panel, series):
        return [float(row["value"]) for row in rows if (row["panel"], row["series"]) == (panel, series)]

    for index in range(2):
        assert values("ab"[index], "area") == list(layout.partition[index])
    assert values("c", "strength z") == patch_latent.tolist()
    for panel, view in zip("def", views, strict=True):
        assert values(panel, "visible") == view.tolist()


def test_areas_need_a_grid(complaint):
    layout = PatchLayout.from_sizes([10, 6], clusters=2)
    with complaint("layout.grid"):
        draw_data(
            layout,
            cluster=0,
            image=np.ones((3, 4, 4)),
            patch_latent=np.ones(16),
            views=[np.ones(16, bool)] * 3,
        )


def test_outlines_run_where_areas_meet():
    axes = Drawing.of_size(1, 1).figure.subplots()
    draw_outlines(axes, np.array([[0, 0, 1], [0, 2, 1]]), colour="black")
    segments = {tuple(map(tuple, segment)) for segment in axes.collections[0].get_segments()}
    expected = {((2, 0), (2, 1)), ((1, 1), (1, 2)), ((2, 1), (2, 2)), ((1, 1), (2, 1))}
    assert segments == {tuple(tuple(map(float, point)) for point in segment) for segment in expected}


def test_the_middle_of_a_region_lies_in_it():
    hollow = np.ones((3, 3), dtype=bool)
    hollow[1, 1] = False
    assert hollow[middle_cell(hollow)]


def test_rendered_pixels_keep_their_order():
    pixels = rendered(np.array([-2.0, 0.0, 1.0]).reshape(1, 1, 3))
    np.testing.assert_allclose(pixels[0, :, 0], [0, 0.5, 0.75])


def test_photographs_show_the_attention_of_their_patches(rng):
    layout = PatchLayout.from_labels([np.kron([[0, 0], [1, 2]], np.ones((4, 4), int))] * 2, patch_size=2)
    attention = rng.random((3, 2, 16, 3))
    attention[:, 1, 0] = np.nan
    photographs = [
        Photograph(name="ab"[k], picture=rng.random((8, 8, 3)), layout=layout, cluster=k, patch=(2, 1))
        for k in range(2)
    ]
    drawing = draw_photographs(photographs, {"mae": attention})
    rows = table(drawing)
    median, areas = np.median(attention, 0), np.array(layout.partition).reshape(2, 4, 4)
    assert len(rows) == 2 * 2 * 16
    for row in rows:
        x, y, cluster = int(row["x"]), int(row["y"]), "ab".index(row["series"][0])
        query = (y * 4 + x) if "own" in row["series"] else 9
        expected = median[cluster, query, areas[cluster, y, x]]
        assert row["value"] == ("" if np.isnan(expected) else repr(float(expected)))


def test_the_users_own_settings_come_back(trajectory):
    before = dict(mpl.rcParams)
    summary_page(trajectory)
    assert dict(mpl.rcParams) == before
