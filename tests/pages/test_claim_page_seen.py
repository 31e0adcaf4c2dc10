"""The page of claims as a reader sees and uses it, in a browser (exact)."""

import re
from dataclasses import replace
from itertools import product

import pytest
import yaml

from vitdyn.claims import CLAIMS, MAE_PHASES, REFUTED, SUPPORTED, Verdict
from vitdyn.pages import claim_page
from vitdyn.pages.style import DARK, LIGHT

GOOD = Verdict(claim=MAE_PHASES.id, case="κ = (0.9, 0.3), P = 1e16", symbol=MAE_PHASES.symbol, predicted_low=0.8,
               predicted_high=0.95, measured=0.9, low=0.85, high=0.92, count=8, status=SUPPORTED, expected=SUPPORTED,
               basis="mean field", interval_of="the step")  # fmt: skip
VERDICTS = [
    GOOD,
    replace(GOOD, case="control", status=REFUTED, expected=REFUTED, measured=0.5, low=0.4, high=0.6),
]


@pytest.fixture(scope="module")
def page():
    return claim_page(CLAIMS[:8], VERDICTS)


@pytest.fixture(scope="module")
def whole():
    return claim_page(CLAIMS, VERDICTS)


def test_no_link_is_dead(whole, request):
    ids = re.findall(r' id="([^"]*)"', whole)
    assert len(set(ids)) == len(ids)
    links = set(re.findall(r'href="([^"]*)"', whole))
    works = yaml.safe_load((request.config.rootpath / "CITATION.cff").read_text("utf-8"))["references"]
    known = {f"#{each}" for each in ids} | {work.get("url") for work in works}
    assert links <= known
    assert {"https://arxiv.org/abs/2403.02233", "#MAE-TIME", "#MAE-TIME-symbols"} <= links


def test_a_reader_goes_to_a_claim_and_from_its_formulas_to_their_symbols(page, look):
    seen = look(page)
    seen.get_by_role("navigation").get_by_role("link", name=MAE_PHASES.id).click()
    section = seen.locator(f'section[id="{MAE_PHASES.id}"]')
    assert 0 <= section.locator("h2").bounding_box()["y"] < 60
    meaning = section.get_by_text("lower end of the support of the latents")
    assert not meaning.is_visible()
    formula = section.locator("p.statement a.formula").first
    assert "φ_1: entry of Φ: a local query with the global area; Δ: information gap" in formula.get_attribute(
        "title"
    )
    formula.click()
    assert meaning.is_visible()


def test_the_keyboard_alone_gets_there(page, look):
    seen = look(page)
    seen.keyboard.press("Tab")
    assert seen.evaluate("document.activeElement.hash") == f"#{CLAIMS[0].id}"  # no formula is on the way
    seen.get_by_role("navigation").get_by_role("link", name=MAE_PHASES.id).focus()
    seen.keyboard.press("Enter")
    focused = "[document.activeElement.tagName, getComputedStyle(document.activeElement).outlineStyle]"
    for _ in range(2):  # the source, then the symbols
        seen.keyboard.press("Tab")
    assert seen.evaluate(focused) == ["SUMMARY", "solid"]
    seen.keyboard.press("Enter")
    assert seen.locator(f'[id="{MAE_PHASES.id}-symbols"]').get_by_text("information gap").is_visible()


def test_nothing_is_wider_than_a_phone(whole, look):
    seen = look(whole.replace("<details>", "<details open>"), width=390)
    assert seen.evaluate("document.documentElement.scrollWidth") == 390


def test_indices_stand_below_the_line_and_powers_above(page, look):
    seen = look(page)
    below, above = (seen.locator(f"nav {kind}").first for kind in ("msub", "msup"))
    for script, sign in ((below, 1), (above, -1)):
        base, raised = (script.locator(f"> :nth-child({place})").bounding_box() for place in (1, 2))
        middles = [box["y"] + box["height"] / 2 for box in (base, raised)]
        assert sign * (middles[1] - middles[0]) > 0.1 * base["height"]


def luminance(colour):
    parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return sum(
        weight * (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4)
        for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True)
    )


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_words_are_told_from_their_ground(colours):
    statuses = [name for name in colours if name.isupper()]
    for ground, words in product(("paper", "panel"), ("ink", "quiet", "link", *statuses)):
        lights = sorted(luminance(colours[name]) for name in (ground, words))
        assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.5


def test_the_page_has_these_colours_and_opens_its_symbols_on_paper(page, look):
    seen = look(page)
    for scheme, colours in (("light", LIGHT), ("dark", DARK)):
        seen.emulate_media(color_scheme=scheme)
        for place, colour in (("body", colours["paper"]), (".SUPPORTED", colours[SUPPORTED])):
            shown = seen.locator(place).first.evaluate("each => getComputedStyle(each).backgroundColor")
            assert re.findall(r"\d+", shown) == [str(int(colour[at : at + 2], 16)) for at in (1, 3, 5)]
    seen.emulate_media(media="print")
    assert seen.locator(f'[id="{MAE_PHASES.id}-symbols"]').get_by_text("information gap").is_visible()
