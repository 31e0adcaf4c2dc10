"""Figures of the mean field: the numbers noted are those drawn, on made-up and on tiny flows. Exact."""

from math import log

import numpy as np
import pytest

from vitdyn.data import AreaSizes
from vitdyn.experiments import Experiment
from vitdyn.plotting import save_figure
from vitdyn.plotting.reduced import (
    CollapseRow,
    Map,
    PortraitPath,
    PowerLaw,
    draw_collapse,
    draw_exponents,
    draw_mixture,
    draw_phase_diagram,
    draw_portrait,
    followed,
    half_crossing,
    read_curves,
    read_maps,
)
from vitdyn.reduced import MeanField, StalledFlowError, integrate
from vitdyn.theory import Prediction

PATCHES = np.array([1e4, 1e6, 1e8])
SPEC = MeanField(sizes=AreaSizes.from_exponents(1e6, 0.9, 0.3), nodes=4, frames=12)


def points(drawing, panel, series):
    return [(row[2], row[4]) for row in drawing.rows if row[:2] == (panel, series)]


def distribution(times, **changes):
    values = {"panel": "MAE", "label": "one", "patches": PATCHES, "times": np.array(times), "exponent": 0.5}
    return PowerLaw(**(values | changes))


def test_times_are_drawn_with_a_line_of_the_predicted_slope_through_the_last():
    drawing = draw_exponents(
        [distribution(2 * PATCHES**0.7), distribution(3 * PATCHES**1.5, panel="CL", exponent=1.5)]
    )
    np.testing.assert_allclose(points(drawing, "a", "one"), [(x, np.log10(2) + 0.7 * x) for x in (4, 6, 8)])
    end = np.log10(2) + 0.7 * 8
    np.testing.assert_allclose(points(drawing, "a", "predicted one"), [(4, end - 2), (6, end - 1), (8, end)])
    np.testing.assert_allclose(points(drawing, "c", "MAE: one"), [(5, 0.2), (7, 0.2)], atol=1e-12)
    np.testing.assert_allclose(points(drawing, "c", "CL: one"), [(5, 0), (7, 0)], atol=1e-12)
    drawn = drawing.figure.axes[0].lines[0].get_xydata()
    np.testing.assert_array_equal(drawn, points(drawing, "a", "one"))


def test_a_time_that_is_missing_leaves_a_gap():
    drawing = draw_exponents([distribution([1e2, 1e3, np.nan])])
    assert np.isnan(points(drawing, "a", "one")[-1][1])
    np.testing.assert_allclose(points(drawing, "a", "predicted one")[1], (6, 3))
    draw_exponents([distribution([np.nan] * 3)]).figure.draw_without_rendering()


def test_rescaled_curves_fall_together():
    times = np.array([0.0, 1.0, 2.0, 5.0])
    curves = [(size, times * size**0.5, np.arange(4.0)) for size in (1e4, 1e8)]
    drawing = draw_collapse([CollapseRow(title="MAE", symbol="φ", exponent=0.5, curves=curves)])
    np.testing.assert_allclose(points(drawing, "a", "P = 10000"), [(100, 1), (200, 2), (500, 3)])
    np.testing.assert_allclose(
        points(drawing, "b", "P = 10000"), points(drawing, "b", "P = 1e+08"), rtol=1e-14
    )
    drawn = drawing.figure.axes[1].lines[1].get_xydata()
    np.testing.assert_array_equal(drawn, points(drawing, "b", "P = 1e+08"))


def test_a_portrait_shows_both_correlations_over_log_patches_and_the_predicted_corner():
    flow = integrate(SPEC)
    corner = Prediction(symbol="φ_1", low=-3.0, high=-2.0, statement="", source="", note="")
    drawing = draw_portrait([PortraitPath(gap=0.5, log_patches=log(1e6), trajectory=flow, corner=corner)])
    feature = flow["feature_position"].to_numpy()[:, 0, 0, 1]
    expected = [feature.reshape(len(feature), 3, -1)[:, area, 0] / log(1e6) for area in (1, 0)]
    np.testing.assert_allclose(points(drawing, "a", "Δ = +0.50"), np.transpose(expected))
    level = next(row for row in drawing.rows if row[1].startswith("predicted"))
    np.testing.assert_allclose(level[-2:], (-3 / log(1e6), -2 / log(1e6)))
    ((own, center),) = points(drawing, "a", "half attention, Δ = +0.50")
    assert expected[0].min() < own < expected[0].max() and center < 0


def grid(title, seed, **options):
    values = np.random.default_rng(seed).random((3, 2))
    values[1, 0] = np.nan
    return Map(title=title, x=np.array([0.6, 0.8]), y=np.array([0.1, 0.2, 0.3]), values=values, **options)


def test_maps_come_back_from_the_saved_numbers(tmp_path):
    maps = [grid("one", 1), grid("two", 2, share=False)]
    drawing = draw_phase_diagram(maps)
    stem = tmp_path / "figure"
    save_figure(drawing, stem)
    for found, each in zip(read_maps(stem.with_suffix(".csv"), "ab"), maps, strict=True):
        np.testing.assert_array_equal(found, each.values)
    axes = drawing.figure.axes[0]
    np.testing.assert_array_equal(np.ma.filled(axes.collections[0].get_array(), np.nan), maps[0].values)
    edge = next(line for line in axes.lines if line.get_label() == r"$\Delta = 0$")
    np.testing.assert_allclose(1 - edge.get_ydata() - 2 * (1 - edge.get_xdata()), 0, atol=1e-15)
    crosses = next(line for line in axes.lines if line.get_marker() == "x")
    np.testing.assert_array_equal(crosses.get_xydata(), [(0.6, 0.2)])


def test_the_threshold_is_where_a_curve_first_falls_through_one_half():
    weights, values = np.array([0.0, 0.2, 0.4, 1.0]), np.array([1.0, 0.9, 0.1, 0.0])
    assert half_crossing(weights, values) == pytest.approx(0.3)
    assert np.isnan(half_crossing(weights, np.ones(4))) and np.isnan(half_crossing(weights, np.zeros(4)))
    drawing = draw_mixture(grid("final", 3), {"P": (weights, values), "never": (weights, np.ones(4))})
    assert points(drawing, "b", "P") == list(zip(weights, values, strict=True))
    np.testing.assert_allclose(points(drawing, "b", "λ*, P"), [(0.3, 0.5)])


def test_drawn_curves_can_be_read_back(tmp_path, complaint):
    weights = np.array([0.0, 0.2, 0.4])
    curves = {"$P = 10^4$, $K = 2$": (weights, np.array([1.0, 0.7, 1e-9])), "never": (weights, np.ones(3))}
    save_figure(draw_mixture(grid("final", 3), curves), tmp_path / "mixture")
    found = read_curves(tmp_path / "mixture.csv", "b")
    assert list(found) == list(curves)
    for name, (x, values) in curves.items():
        np.testing.assert_array_equal(found[name], [x, values])
    with complaint("redraw"):
        read_curves(tmp_path / "absent.csv", "b")


def test_a_flow_that_stalls_is_missing():
    def stalls(_):
        raise StalledFlowError("stalled", experiment.training, 1.0)

    experiment = Experiment(name="one", training=SPEC)
    assert followed(stalls, experiment) is None
    flow = integrate(SPEC)
    assert followed(lambda _: flow, experiment) is flow


def test_bad_input_is_named(complaint, tmp_path):
    with complaint("times"):
        distribution([1.0])
    with complaint("values"):
        Map(title="", x=np.arange(2.0), y=np.arange(2.0), values=np.zeros((3, 2)))
    with complaint("redraw", "run without --redraw first"):
        read_maps(tmp_path / "none.csv", "a")
