"""Panels over several runs and the gaps of photographs: the numbers written are the numbers drawn. Exact."""

import numpy as np
import pytest

from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import Schedule, Training, simulate
from vitdyn.objectives import MaskedReconstruction
from vitdyn.plotting import save_figure
from vitdyn.plotting.drawing import COLUMNS
from vitdyn.plotting.photograph_gaps import Segmented, draw_photograph_gaps
from vitdyn.plotting.questions import (
    LOCAL,
    Panel,
    Series,
    draw_panels,
    events_in_order,
    final_attention,
    table_of_ends,
)

VALUES = np.array([[0.1, 0.2, 0.6], [0.3, np.nan, 0.9]])
SMALL = Series(words="few", x=np.array([1.0, 4.0]), values=VALUES)


def panel(kind="sweep", series=(SMALL,), **options):
    return Panel(title="a title", across="x", up="y", kind=kind, series=series, **options)


def rows_of(drawing, letter, series):
    drawing.figure.draw_without_rendering()
    found = [dict(zip(COLUMNS, row, strict=True)) for row in drawing.table()]
    kept = [row for row in found if (row["panel"], row["series"]) == (letter, series)]
    return np.array([[float(row[name] or "nan") for name in ("x", "value", "low", "high")] for row in kept])


def test_a_sweep_writes_every_seed_and_the_mean_over_those_there_are():
    drawing = draw_panels([panel(), panel(scale="logarithmic", ticks=[(1.0, "one"), (4.0, "four")])])
    for letter in "ab":
        np.testing.assert_array_equal(
            rows_of(drawing, letter, "mean of few"),
            [[1, np.mean([0.1, 0.2, 0.6]), 0.1, 0.6], [4, np.mean([0.3, 0.9]), 0.3, 0.9]],
        )
        points = rows_of(drawing, letter, "few")
        np.testing.assert_array_equal(points[:, 0], [1, 1, 1, 4, 4, 4])
        np.testing.assert_array_equal(points[:, 1], VALUES.ravel())
    drawn = drawing.figure.axes[0].lines
    np.testing.assert_array_equal(drawn[0].get_ydata(), VALUES.ravel())
    np.testing.assert_allclose(drawn[1].get_ydata(), [0.3, 0.6])


def test_a_curve_writes_its_median_and_its_band():
    found = rows_of(draw_panels([panel("curve", scale="clock")]), "a", "few")
    np.testing.assert_allclose(found, [[1, 0.2, 0.1, 0.6], [4, 0.6, 0.3, 0.9]])


def test_a_portrait_writes_the_path_of_each_seed():
    across = np.array([[0.0, 0.0], [-1.0, -2.0]])
    up = np.array([[0.0, 0.5], [3.0, 4.0]])
    drawing = draw_panels([panel("portrait", (Series(words="path", x=across, values=up),), limits=None)])
    for seed in range(2):
        found = rows_of(drawing, "a", f"path, seed {seed}")
        np.testing.assert_array_equal(found[:, :2], np.stack([across[:, seed], up[:, seed]], 1))


def test_named_levels_of_x_are_written():
    assert rows_of(draw_panels([panel(lines=[(0.5, "half")])]), "a", "half")[0, 0] == 0.5


def test_panels_refuse_what_cannot_be_drawn(complaint):
    with complaint("values"):
        Series(words="", x=np.zeros(2), values=np.zeros(2))
    with complaint("x"):
        Series(words="", x=np.zeros(3), values=np.zeros((2, 3)))
    with complaint("Panel.kind"):
        panel("pie")
    with complaint("Panel.scale"):
        panel(scale="cubic")
    with complaint("Panel.series"):
        panel(series=())
    with complaint("panels"):
        draw_panels([])


def test_the_table_tells_all_points_of_a_sweep_and_the_end_of_a_curve():
    told = table_of_ends([panel(), panel("curve")]).splitlines()
    assert len(told) == 2 + 2 + 1
    assert told[2].split()[-4:] == ["1.000", "0.300", "0.100", "0.600"], "the mean, not the median"
    assert told[-1].split()[-4:] == ["4.000", "0.600", "0.300", "0.900"]


def test_events_in_order_reads_the_fall_at_a_tenth_of_the_rise():
    # First seed: all of the fall is done before the rise; second: both at once; third: never falls.
    rise = np.array([[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [10.0, 1.0, 1.0]])
    fall = np.array([[0.0, 0.0, 0.0], [-2.0, -1.0, 0.1], [-2.0, -2.0, 0.2]])
    found = events_in_order(fall, rise)
    np.testing.assert_allclose(found[:2], [1.0, 0.1])
    assert np.isnan(found[2])


def test_final_attention_is_the_trajectorys_last_frame():
    layout = PatchLayout.from_sizes([[6, 3, 2], [7, 4]], seed=1)
    trajectory = simulate(
        Training(
            generator=PatchGenerator(layout=layout), objective=MaskedReconstruction(), steps=2, batch_size=6, seeds=2,
            evaluation_samples=12, schedule=Schedule(frames=3),
        )
    )  # fmt: skip
    attention = trajectory["area_attention"].sel(statistic="mean").to_numpy()[-1]
    own = trajectory["own_area_attention"].sel(statistic="mean").to_numpy()[-1]
    for case, (seed, cluster) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        assert final_attention(trajectory, 1, 0)[case] == pytest.approx(float(attention[seed, cluster, 1, 0]))
        expected = float(np.nanmean(own[seed, cluster, 1:].astype(float)))
        assert final_attention(trajectory, LOCAL)[case] == pytest.approx(expected, nan_ok=True)


def segmented(columns, size=8, algorithm="slic"):
    labels = np.repeat(np.asarray(columns), 8)[None].repeat(64, 0)
    layout = PatchLayout.from_labels(labels, patch_size=8)
    return Segmented(photograph=f"{columns}", algorithm=algorithm, patch_size=size, layout=layout)


def test_the_gaps_of_photographs_are_the_layouts(tmp_path):
    cases = [
        segmented([0, 0, 0, 0, 0, 0, 1, 2]),
        segmented([0, 0, 1, 1, 2, 2, 3, 4]),
        segmented([0, 0, 0, 0, 0, 1, 2, 3]),
        segmented([0, 0, 0, 0, 1, 2, 3, 3], algorithm="felzenszwalb", size=16),
    ]
    drawing = draw_photograph_gaps(cases)
    gaps = sorted(each.layout.information_gap for each in cases[:3])
    found = rows_of(drawing, "a", "gap at patch size 8")
    np.testing.assert_allclose(found[:, 1], gaps)
    assert rows_of(drawing, "a", "median gap")[0, 1] == pytest.approx(np.median(gaps))
    assert rows_of(drawing, "a", "share above 0")[0, 1] == pytest.approx(2 / 3)
    place = rows_of(drawing, "c", f"{cases[3].photograph}, felzenszwalb, 16 px")
    np.testing.assert_allclose(place[0, :2], [cases[3].layout.kappa_s, cases[3].layout.kappa_c])
    assert save_figure(drawing, tmp_path / "gaps").is_file()


def test_the_range_of_the_theory():
    assert segmented([0, 0, 0, 0, 0, 0, 1, 2]).in_range, "8 of 64 patches are κ_s = 1/2, the end of the range"
    assert not segmented([0, 0, 0, 0, 0, 1, 1, 1]).in_range, "κ_s = 0.76"
    assert not segmented([0, 0, 1, 1, 2, 2, 3, 4]).in_range
