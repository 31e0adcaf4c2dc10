"""The page of claims and its figures, on made-up verdicts (exact)."""

import re
from base64 import b64decode
from dataclasses import replace
from html import unescape
from math import inf, nan

import pytest

from vitdyn.claims import INCONCLUSIVE, MAE_AREA, REFUTED, SUPPORTED, Assumption, Verdict
from vitdyn.pages import claim_page, docs_address, write_claim_page
from vitdyn.pages.formula import formulas_in
from vitdyn.plotting import draw_verdicts

GOOD = Verdict(claim="MAE-AREA", case="good", symbol="x", predicted_low=0.8, predicted_high=inf, measured=0.9,
               low=0.85, high=0.95, count=8, status=SUPPORTED, expected=SUPPORTED,
               basis="full simulation", interval_of="seeds, 99.9 % (Student)")  # fmt: skip
CONTROL = replace(GOOD, case="other", measured=1e-4, low=9e-5, high=2e-4, status=REFUTED, expected=REFUTED)
NOTHING = replace(GOOD, case="stalled", measured=nan, low=nan, high=nan, count=0, status=INCONCLUSIVE,
                  reason="the flow stalls")  # fmt: skip
OPEN = replace(GOOD, case="open", low=-inf, high=inf, status=INCONCLUSIVE, reason="one seed has no interval")


def colours(axes, row):
    """Of what is drawn at the middle of a row: its markers' colours."""
    return {line.get_color() for line in axes.lines if set(line.get_ydata()) == {row}}


def test_the_figure_draws_what_was_measured_against_what_was_predicted():
    drawing = draw_verdicts([GOOD, CONTROL])
    (axes,) = drawing.figure.axes
    good, other = (colours(axes, row) for row in (0, 1))
    assert len(good) == len(other) == 1 and good != other
    rows = {(row[1], *row[4:]) for row in drawing.rows}
    assert {("good", 0.9, 0.85, 0.95), ("other", 1e-4, 9e-5, 2e-4), ("good: predicted", "", 0.8, inf)} <= rows
    (shade, _) = axes.collections
    least, most = (getattr(shade.get_paths()[0].vertices[:, 0], end)() for end in ("min", "max"))
    assert (least, most) == (0.8, axes.get_xlim()[1])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["good", "control: other"]


def test_the_axis_is_logarithmic_only_where_cases_need_it():
    assert draw_verdicts([GOOD, CONTROL]).figure.axes[0].get_xscale() == "linear"
    tiny = replace(GOOD, predicted_low=-inf, predicted_high=1e-9, measured=1e-15, low=1e-16, high=1e-14)
    assert draw_verdicts([tiny, CONTROL]).figure.axes[0].get_xscale() == "log"
    assert draw_verdicts([replace(tiny, low=0.0), CONTROL]).figure.axes[0].get_xscale() == "linear"


@pytest.mark.parametrize("verdicts", [[NOTHING], [OPEN], [GOOD, NOTHING, OPEN], [CONTROL]])
def test_what_has_no_number_or_no_end_is_drawn_too(verdicts):
    drawing = draw_verdicts(verdicts)
    drawing.figure.draw_without_rendering()
    (axes,) = drawing.figure.axes
    least, most = axes.get_xlim()
    for line in axes.lines:
        assert all(least <= x <= most for x in line.get_xdata())


def test_the_page_tells_every_case_with_its_numbers_and_remarks():
    page = claim_page([MAE_AREA], [GOOD, NOTHING, replace(CONTROL, status=SUPPORTED)])
    words = unescape(re.sub(r"<[^<>]+>", "", page))
    for part in (
        MAE_AREA.statement,
        "[0.8500, 0.9500]",
        "the flow stalls",
        "control: MUST BE REFUTED",
        "full simulation",
        "seeds, 99.9 % (Student)",
        *(words for words in formulas_in(MAE_AREA.assumed) if isinstance(words, str)),
        "(0.8000, ∞)",
    ):
        assert part in words
    assert "0 supported, 0 refuted, 1 inconclusive" in page
    assert page == claim_page([MAE_AREA], [GOOD, NOTHING, replace(CONTROL, status=SUPPORTED)])


def test_its_pictures_are_inside_it():
    page = claim_page([MAE_AREA], [GOOD, CONTROL])
    picture = b64decode(page.split("data:image/png;base64,")[1].split('"')[0], validate=True)
    assert picture.startswith(b"\x89PNG") and picture.endswith(b"IEND\xaeB`\x82")


def test_all_words_are_escaped(tmp_path):
    hostile = '<img src="http://x" onerror=alert(1)>&'
    claim = replace(MAE_AREA, id=hostile, statement=hostile, source=hostile, surrogate=hostile, symbol=hostile,
                    note=hostile, assumptions=(Assumption(sentence=hostile, holds=bool),))  # fmt: skip
    verdict = replace(
        GOOD,
        claim=hostile,
        case=hostile + " $x_",
        symbol=hostile,
        reason=hostile,
        basis=hostile,
        interval_of=hostile,
    )
    path = write_claim_page(tmp_path / "page.html", [claim], [verdict])
    text = path.read_text(encoding="utf-8")
    assert hostile not in text and '<img src="http' not in text
    assert text.count("<img ") == 1
    assert unescape(text).count(hostile) >= 10


def test_a_claim_without_a_verdict_is_on_the_page():
    page = claim_page([MAE_AREA], [])
    assert "No run was judged." in page
    assert "<img" not in page


def test_notes_are_links_where_the_documentation_is(tmp_path, complaint):
    folder = tmp_path / "built docs"
    with complaint("docs", "make docs"):
        docs_address(str(folder), tmp_path / "page.html")
    folder.mkdir()
    folder.joinpath("claims.html").touch()
    address = docs_address(str(folder), tmp_path / "pages" / "page.html")
    assert address == "../built%20docs"
    assert f'<a href="{address}/claims.html#mae-area">' in claim_page([MAE_AREA], [], address)
    assert docs_address("https://docs.org/vitdyn/", tmp_path) == "https://docs.org/vitdyn"
    assert "claims.html" not in claim_page([MAE_AREA], [])


def test_claims_and_works_that_are_named_are_links():
    claim = replace(
        MAE_AREA, id="ONE", statement="As ONE, unlike TWO-ONE: `head_gap`.", source="Park et al.'s (2023)"
    )
    page = claim_page([claim, MAE_AREA], [])
    assert 'As <a href="#ONE">ONE</a>, unlike TWO-ONE: `<code>head_gap</code>`.' in page
    assert '<a href="https://arxiv.org/abs/2305.00729">Park et al.&#x27;s (2023)</a>' in page


def test_a_formula_says_what_its_symbols_mean():
    page = claim_page(
        [replace(MAE_AREA, id="ONE", statement="A κ_s of x.", symbols={"x": "the <unknown>"})], []
    )
    assert 'href="#ONE-symbols" title="κ_s: exponent of C_s"' in page
    assert 'title="x: the &lt;unknown&gt;"' in page and "<dd>the &lt;unknown&gt;</dd>" in page
