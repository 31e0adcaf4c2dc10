"""A sweep as a page, explored as a reader does: by clicking, by keyboard, on a phone, in the dark (exact)."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import xarray

import vitdyn as vd
from vitdyn.claims import REFUTED, SUPPORTED, Verdict
from vitdyn.cli import main
from vitdyn.pages import explore_cells, explore_grid
from vitdyn.pages.explore import read_verdicts, write_explorer
from vitdyn.pages.explore_cells import fitting
from vitdyn.pages.explore_grid import Grid
from vitdyn.pages.explore_numbers import plain, thinned

LABEL = "cl, <img src=x onerror=alert(1)> %{x}"
"""What would be markup, or a template of plotly's, if labels were not taken as words."""
VERDICT = Verdict(claim="MAE-AREA", case="<b>small</b>", symbol="A_own", predicted_low=0.5, predicted_high=math.inf,
                  measured=0.9, low=0.8, high=0.95, count=4, status=SUPPORTED, expected=SUPPORTED,
                  basis="full simulation", interval_of="seeds")  # fmt: skip
VERDICTS = (
    VERDICT,
    replace(VERDICT, case="near", measured=0.2, low=0.1, high=0.3, status=REFUTED, expected=REFUTED),
    replace(VERDICT, claim="OWN", case="lost", measured=math.nan, low=math.nan, status=REFUTED),
)


def make(kappa_c, objective, rate):
    layout = vd.PatchLayout.from_exponents(16, kappa_c=kappa_c, kappa_s=0.5)
    if kappa_c == 0.8 and rate == 2.0:  # of one cell no experiment can be made
        rate = 1e30 if isinstance(objective, vd.Contrastive) else rate
    optimizer = vd.GradientDescent(learning_rate=rate)
    generator = vd.PatchGenerator(layout=layout)
    training = vd.Training(generator=generator, objective=objective, optimizer=optimizer, steps=10, seeds=2)
    return vd.Experiment(name="tiny", training=training)


AXES = {"kappa_c": (0.7, 0.75, 0.8), "objective": {"mae": vd.MaskedReconstruction(), LABEL: vd.Contrastive()},
        "rate": (1.0, 2.0)}  # fmt: skip


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder of twelve cells, one of them refused and one lost, with its page, which the command line wrote."""
    folder = tmp_path_factory.mktemp("swept")
    vd.run_sweep(vd.Sweep.product("tiny", make, AXES), folder)
    lost = str(vd.collect(folder)["key"].sel(kappa_c=0.7, objective="mae", rate=2.0).item())
    (folder / "cells" / lost[:2] / f"{lost}.nc").unlink()
    held = [{name: value if value == value and value != math.inf else None for name, value in asdict(each).items()}
            for each in VERDICTS]  # fmt: skip
    (folder / "verdicts.json").write_text(json.dumps(held))
    assert main(["explore", str(folder), "--out", str(folder / "page.html")]) == 0
    return folder


@pytest.fixture(scope="module")
def results(swept):
    return vd.collect(swept)


@pytest.fixture
def page(swept, look):
    """Open the page, as it is when its pictures are drawn."""

    def opened(**options):
        tab = look(swept / "page.html", **options)
        tab.wait_for_selector("#diagram .nsewdrag")
        return tab

    return opened


def click_cell(tab, column, row, columns, rows):
    """Click into the picture, rows counted from above."""
    box = tab.locator("#diagram .nsewdrag").first.bounding_box()
    across, down = (column + 0.5) / columns, (row + 0.5) / rows
    tab.mouse.click(box["x"] + across * box["width"], box["y"] + down * box["height"])


def table_of(tab, selector):
    """Return the cells of a table that stands behind a picture, opened as a reader opens it."""
    tab.locator(f"{selector} > summary").click()
    tab.locator(f"{selector} tbody tr").first.wait_for()  # the table is made once it is opened
    return [row.locator("td").all_inner_texts() for row in tab.locator(f"{selector} tbody tr").all()]


def numbers(words):
    """Return the numbers in "0.5 [0.25, 0.75]", as a reader takes them."""
    plain_words = words.replace("−", "-").replace(",", "").replace("[", "").replace("]", "")
    return [float(word) for word in plain_words.split()]


def test_a_cell_that_is_clicked_shows_the_numbers_that_were_collected(page, results):
    tab = page()
    tab.locator("#views button", has_text="Phase diagram").click()
    tab.locator("#choose-x").select_option(label="rate")
    tab.locator("#choose-y").select_option(label="objective")
    tab.locator("#choose-at-0").press("ArrowRight")  # the slider of kappa_c, to 0.75
    assert "at kappa_c = 0.75" in tab.locator("#diagram-title").inner_text()
    tab.locator("#choose-quantity").select_option(label="own area attention (local areas, mean)")
    click_cell(tab, column=1, row=0, columns=2, rows=2)
    assert tab.locator("#cell h2").inner_text() == "kappa_c = 0.75, objective = mae, rate = 2"

    cell = results.sel(kappa_c=0.75, objective="mae", rate=2.0)
    assert tab.locator("#cell code").inner_text() == cell["key"].item()
    own = cell["own_area_attention"].sel(statistic="mean").mean("cluster")
    final = own.isel(frame=-1, query_area=slice(1, None)).mean("query_area")
    told = tab.locator("#cursor").inner_text().partition("rate = 2: ")[2]
    expected = [final.mean(), final.min(), final.max()]
    np.testing.assert_allclose(numbers(told), expected, rtol=1e-3)

    figure = '#cell figure:has([data-panel="own_area_attention"]) details'
    rows = table_of(tab, figure)
    steps, *areas = [[numbers(words) for words in column] for column in zip(*rows, strict=True)]
    assert [step for (step,) in steps] == cell["step"].to_numpy().tolist()
    assert len(areas) == own.sizes["query_area"]
    for area, shown in enumerate(areas):
        seeds = own.isel(query_area=area)
        bands = np.stack([seeds.median("seed"), seeds.min("seed"), seeds.max("seed")], -1)
        # a number stands alone where all seeds have it
        wide = [each if len(each) == 3 else each * 3 for each in shown]
        np.testing.assert_allclose(wide, bands, rtol=1e-3, atol=1e-6)

    # what runs it again is the experiment itself
    tab.locator("#cell summary", has_text="The experiment").click()
    again = vd.Experiment.from_json(tab.locator("#cell pre").inner_text())
    assert again.key == cell["key"].item()


def test_all_is_reached_by_keyboard_and_what_has_no_result_says_why(page, results):
    tab = page()
    tab.locator("#views button", has_text="Phase diagram").focus()
    tab.keyboard.press("Enter")
    for _ in range(12):  # in the order of the page: views, controls, then the diagram
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.id") == "diagram":
            break
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    # kappa_c across, objective upwards, rate = 1 on its slider
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowDown", "Enter"):
        tab.keyboard.press(key)
    assert tab.locator("#cell h2").inner_text() == f"kappa_c = 0.8, objective = {LABEL}, rate = 1"
    assert tab.evaluate("document.activeElement.tagName") == "H2"
    tab.keyboard.press("Escape")
    assert tab.evaluate("document.activeElement.id") == "diagram"
    assert tab.locator("#cell h2").count() == 0

    tab.locator("#choose-at-2").press("ArrowRight")
    tab.locator("#diagram").press("Enter")
    why = results["error"].sel(kappa_c=0.8, objective=LABEL, rate=2.0).item()
    assert "learning_rate" in why
    assert tab.locator("#cell .error").inner_text() == why
    tab.locator("#diagram").press("ArrowUp")
    tab.locator("#diagram").press("Home")
    assert tab.locator("#cursor").inner_text().endswith("rate = 2: missing")
    rows = table_of(tab, "#diagram-table")
    assert rows[1][0] == LABEL and rows[1][3] == f"refused: {why}"
    # the address holds all that was chosen
    address = tab.url
    tab.goto("about:blank")
    tab.goto(address)
    tab.wait_for_selector("#cell h2")
    assert "rate = 2" in tab.locator("#diagram-title").inner_text()


def test_families_and_verdicts_on_a_phone_in_the_dark(page):
    tab = page(width=390, height=800, dark=True)
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    tab.locator("#views button", has_text="Families").click()
    # each family has a row with its name, then its objectives
    labels = [row["label"] for row in tab.evaluate("explorer.diagram.rows")]
    assert labels == ["generative", "mae", "contrastive", LABEL]
    click_cell(tab, column=1, row=1, columns=3, rows=4)
    assert tab.locator("#cell h2").inner_text() == "kappa_c = 0.75, objective = mae, rate = 1"
    overflow = "document.documentElement.scrollWidth - innerWidth"
    assert tab.evaluate(overflow) <= 0

    tab.locator("#views button", has_text="Verdicts").click()
    assert tab.locator("#verdicts tbody tr").count() == 3
    tab.locator("#verdicts button", has_text="REFUTED (2)").click()
    assert tab.locator("#verdicts tbody tr").count() == 2
    tab.locator("#verdicts button", has_text="all").click()
    tab.locator("#verdicts input").fill("small")
    row = tab.locator("#verdicts tbody tr")
    assert "<b>small</b>" in row.inner_text()
    evidence = row.locator("svg").get_attribute("aria-label")
    assert evidence == "predicted: A_own > 0.5; measured 0.9, from 0.8 to 0.95"
    row.locator("a").click()
    assert tab.evaluate("document.activeElement.id") == "MAE-AREA"
    assert "comes to give that area most of its attention" in tab.locator("#MAE-AREA p").first.inner_text()
    assert tab.evaluate(overflow) <= 0

    tab.locator("#theme").click()
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != paper


def test_one_axis_is_a_curve_with_a_band(page, results):
    tab = page()
    tab.locator("#views button", has_text="Phase diagram").click()
    tab.locator("#choose-y").select_option("none")
    tab.locator("#choose-quantity").select_option(label="loss")
    low, high, mean, _ = (trace.get("y") for trace in tab.evaluate("explorer.diagram.box.data"))
    final = results["loss"].sel(objective="mae", rate=1.0).isel(frame=-1)
    for drawn, expected in ((low, final.min("seed")), (mean, final.mean("seed")), (high, final.max("seed"))):
        np.testing.assert_allclose(drawn, expected, rtol=1e-3)
    pictures = tab.locator("#cell .picture, #diagram")
    assert all(each.get_attribute("aria-label") for each in pictures.all())


def test_the_same_sweep_gives_the_same_page_and_it_is_small(swept, results, tmp_path):
    verdicts = read_verdicts(swept / "verdicts.json")
    written, left_out = write_explorer(tmp_path / "again.html", results, verdicts=verdicts)
    assert written.read_bytes() == (swept / "page.html").read_bytes()
    assert left_out == []
    assert written.stat().st_size < 8_000_000


def test_what_does_not_fit_is_thinned_and_said(results, monkeypatch, complaint):
    grid = Grid.of(results.sel(kappa_c=[0.75], objective=[LABEL]))
    whole, nothing = fitting(grid, 10**7)
    assert nothing == []
    less, words = fitting(grid, len(whole) * 3 // 4)
    assert len(less) <= len(whole) * 3 // 4
    assert "local areas are drawn in their mean" in words
    with complaint("sweep", "record fewer observables"):
        fitting(grid, 100)
    monkeypatch.setattr(explore_cells, "MOST_CELLS", 1)
    with complaint("sweep", "collect fewer values of an axis"):
        fitting(grid, 10**7)


def test_a_list_of_points_is_drawn_on_the_grid_of_its_labels(tmp_path, monkeypatch):
    points = [{"kappa_s": 0.3, "kappa_c": 0.9}, {"kappa_s": 0.2, "kappa_c": 0.8}]

    def limit(**exponents):
        sizes = vd.AreaSizes.from_exponents(1e8, **exponents)
        return vd.Experiment(name="limit", training=vd.MeanField(sizes=sizes, nodes=8, frames=8))

    vd.run_sweep(vd.Sweep.listed("limits", limit, points), tmp_path)
    collected = vd.collect(tmp_path)
    grid = Grid.of(collected)
    assert grid.axes == {"kappa_s": [0.2, 0.3], "kappa_c": [0.8, 0.9]}
    assert [cell.status for cell in grid.cells] == ["done", "absent", "absent", "done"]
    assert grid.load(grid.cells[3]).dataset.equals(vd.integrate(limit(**points[0]).training).dataset)
    monkeypatch.setattr(explore_grid, "_SPARSEST", 1)  # as if the points shared no labels
    assert Grid.of(collected).axes == {
        "cell": ["kappa_s = 0.3, kappa_c = 0.9", "kappa_s = 0.2, kappa_c = 0.8"]
    }


def test_numbers_are_rounded_to_what_a_screen_shows():
    values = [0.0, -1.23456, 123456.0, 1e-30, np.nan, np.inf]
    assert plain(values) == [0.0, -1.235, 123500.0, 1e-30, None, None]
    assert thinned(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert thinned(100, 4).tolist() == [0, 33, 66, 99]


@pytest.mark.parametrize("text", ["{}", "[{}]", "no JSON", '[{"claim": "X"}]'])
def test_verdicts_of_another_kind_are_refused(tmp_path, complaint, text):
    (tmp_path / "verdicts.json").write_text(text)
    with complaint("verdicts"):
        read_verdicts(tmp_path / "verdicts.json")


def test_what_is_no_sweep_is_refused(tmp_path, capsys, complaint):
    for nonsense in (None, 3, {}, xarray.Dataset()):
        with complaint("dataset", "must be what vd.collect returns"):
            write_explorer(tmp_path / "page.html", nonsense)
    assert main(["explore", str(tmp_path), "--out", str(tmp_path / "page.html")]) == 2
    assert "holds no sweep" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
