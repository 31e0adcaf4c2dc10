"""Formulas in sentences: nothing is lost, nothing is made up, and every symbol of a claim has a meaning (exact)."""

import re
from functools import cache
from pathlib import Path
from unicodedata import normalize
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitdyn.claims import CLAIMS
from vitdyn.claims.symbols import SYMBOLS
from vitdyn.pages.formula import Formula, formulas_in
from vitdyn.pages.tokens import BAR, INDICES, POWERS

NOTE = Path(__file__).parents[2] / "theory_notes" / "symbols.md"


@cache
def sentences(claim):
    cases = {
        case.name for scale in ("quick", "full") for case in (*claim.cases(scale), *claim.controls(scale))
    }
    return [claim.statement, claim.source, claim.assumed, claim.surrogate, claim.symbol, *sorted(cases)]


def formulas(sentence):
    return [part for part in formulas_in(sentence) if isinstance(part, Formula)]


def read_back(node):
    """What a reader of the MathML would write on a line."""
    tag, inner = node.tag, [read_back(child) for child in node]
    if tag in ("msub", "msup", "msubsup"):
        return "".join(
            map("".join, zip(("", *{"msub": "_", "msup": "^"}.get(tag, "_^")), inner, strict=True))
        )
    if tag == "mover":
        return inner[0] + BAR
    words = {"∑": "Σ", "∗": "*"}.get(node.text, node.text or "")
    return ("√" if tag == "msqrt" else "") + words + "".join(inner)


def on_a_line(source):
    """A formula as ``read_back`` gives it: without spaces, and without brackets that only hold a script together."""
    power, index = (f"[{''.join(map(re.escape, signs))}]+" for signs in (POWERS, INDICES))
    line = re.sub(
        r"(\d)e([+-]?)0*(\d+)", lambda m: f"{m[1]}·10^{m[2].replace('-', '−').strip('+')}{m[3]}", source
    )
    line = re.sub(r"(?<!\d)1·10\^", "10^", line)
    line = re.sub(power, lambda m: "^" + "".join(POWERS[c] for c in m[0]).replace("∗", "*"), line)
    line = re.sub(index, lambda m: "_" + "".join(INDICES[c] for c in m[0]), line).replace(" ", "")
    place = 0
    while found := re.compile(r"[_^√][({[]").search(line, place):
        place, depth = found.end(), 1
        end = place
        while depth:
            depth += (line[end] in "({[") - (line[end] in ")}]")
            end += 1
        line = line[: place - 1] + line[place : end - 1] + line[end:]
        place -= 1
    return line


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_nothing_of_a_claim_is_lost(claim):
    for sentence in sentences(claim):
        assert "".join(map(str, formulas_in(sentence))) == sentence
        for formula in formulas(sentence):
            assert read_back(ElementTree.fromstring(formula.mathml)) == on_a_line(formula.source)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_no_formula_is_left_among_the_words_of_a_claim(claim):
    for sentence in sentences(claim):
        for words in formulas_in(sentence):
            assert isinstance(words, Formula) or not re.search(r"[Ͱ-Ͽ^=<>≤≥∂√]|\b[A-Za-z]_", words)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_every_symbol_of_a_claim_has_a_meaning(claim):
    used = {
        name for sentence in sentences(claim) for formula in formulas(sentence) for name in formula.symbols
    }
    assert used <= SYMBOLS.keys() | claim.symbols.keys()
    assert claim.symbols.keys() <= used
    assert not claim.symbols.items() & SYMBOLS.items()


def test_the_notes_have_the_same_meanings():
    rows = [re.split(r" *(?<!\\)\| *", line.strip("| \n")) for line in NOTE.read_text("utf-8").splitlines()]
    told = {
        (name.replace("\\", ""), row[-1])
        for row in rows
        if len(row) == 4
        for name in re.split(r", (?![^{]*})", row[0])
    }
    assert SYMBOLS.items() <= told


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("A run takes a level of P = 1e16 patches.", ["P = 1e16"]),
        ("κ_s ≤ 1/2 < κ_c, or an area larger than area 1.", ["κ_s ≤ 1/2 < κ_c"]),
        ("bends like −A(1 − A)²(1 − 3A).", ["−A(1 − A)²(1 − 3A)"]),
        ("I-JEPA's loss, MoCo v3 and ViT-B/16 in 12 of 16 runs (a fall counts as 0), e.g. 1/2", []),
        ("(full: 600), κ = (0.9, 0.4): λ·CL", ["κ = (0.9, 0.4)", "λ·CL"]),
        ("own_area_attention, http://x/P_1 and K", ["K"]),
        ("x_ and q^ are not complete, nor is (α or |", ["x", "q", "α"]),
    ],
)
def test_words_are_told_from_symbols(sentence, found):
    assert [str(formula) for formula in formulas(sentence)] == found


def test_what_a_formula_is_made_of():
    (formula,) = formulas("P^{−min(2κ_s, 1)} ≤ |θ̄| + √(m_2/τ_t*)")
    assert formula.symbols == ("P", "κ_s", f"θ{BAR}", "m_2", "τ_t*")
    assert '<mo form="prefix">−</mo>' in formula.mathml
    assert "<msubsup><mi>τ</mi><mrow><mi>t</mi></mrow><mrow><mo>∗</mo></mrow></msubsup>" in formula.mathml
    assert "d" not in formulas("d log T/d log P = d(1/λ)/dt")[0].symbols


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from([*"aAPκφz_^{}()[]|·−+=<>/√Σ,. 01é²*₂&\"'", BAR, "log", "own", "1e-5", "dt"])
    ).map("".join)
)
def test_any_text_is_taken(text):
    parts = formulas_in(text)
    assert normalize("NFD", "".join(map(str, parts))) == normalize("NFD", text)
    for part in parts:
        if isinstance(part, Formula):
            assert read_back(
                ElementTree.fromstring(part.mathml)
            )  # well formed: a base has the scripts it asks for
