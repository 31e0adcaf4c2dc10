"""What builds the notes into pages: formulas without a lost symbol, and links that lead somewhere (exact)."""

import importlib
import re
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from sphinx.errors import ExtensionError

NOTES = Path(__file__).parent.parent / "theory_notes"


@pytest.fixture(scope="module")
def formulas():
    return extension("formulas")


def extension(name):
    sys.path.insert(0, str(NOTES / "_sphinx"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


@pytest.mark.parametrize(
    ("plain", "latex"),
    [
        ("Δ = (1 − κ_s) − 2(1 − κ_c)", "Δ = (1 - κ_{s}) - 2(1 - κ_{c})"),
        ("P^κ_c e^{−z²/τ} Cov_ij² L_MAE", r"P^{κ_{c}} e^{-z^{2}/τ} \operatorname{Cov}_{ij}^{2} L_{\mathrm{MAE}}"),
        ("√(Var_j + ε) √κ_s F̄⁺_b", r"\sqrt{\operatorname{Var}_{j} + \varepsilon } \sqrt{κ_{s}} \bar{F}^{+}_{b}"),
        ("½ log(zz')   for some z of a batch", r"\tfrac{1}{2} \log (zz')\qquad \text{for some }z\text{ of a batch}"),
        ("m = ``weight``, 1e-4, 1{j = a}", r"m = \texttt{weight}, 10^{-4}, 1\{j = a\}"),
        ("a = b,\nc = d", r"a = b, \\ c = d"),
        ("own   P²\n      C_s", r"\begin{array}{ll}\text{own} & P^{2} \\  & C_{s}\end{array}"),
    ],
)  # fmt: skip
def test_equations_of_docstrings_as_latex(formulas, plain, latex):
    assert formulas.latex_of(plain) == latex
    formulas.mathml(latex)


def test_an_open_bracket_is_refused(formulas):
    with pytest.raises(ExtensionError, match=r"no \} closes the formula 'e\^\{x'"):
        formulas.latex_of("e^{x")


def test_formulas_of_the_notes_lose_nothing(formulas):
    fences = [
        formula
        for note in sorted(NOTES.glob("*.md"))
        for formula in re.findall(r"```math\n(.*?)```", note.read_text(encoding="utf-8"), re.DOTALL)
    ]
    assert len(fences) > 50
    for formula in fences:
        formulas.mathml(formula, "block")  # raises where a command is not known
    with pytest.raises(ExtensionError, match="does not know"):
        formulas.mathml(r"\begin{gathered} a & b \end{gathered}")


def test_links_of_pages_are_followed(tmp_path):
    faults = extension("links").faults
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.html").write_text(
        '<a href="deep/b.html#here">x</a> <a href="#x">y</a> <a href="https://h/">z</a>'
    )
    (tmp_path / "deep" / "b.html").write_text(
        '<p id="here"><a href="../a.html">x</a><img src="https://h/p.png">'
    )
    assert faults(tmp_path) == [
        "a.html leads to #x, which has no such anchor",
        "deep/b.html would fetch https://h/p.png",
    ]
    (tmp_path / "deep" / "b.html").write_text("")
    assert "a.html leads to deep/b.html#here, which has no such anchor" in faults(tmp_path)
    (tmp_path / "deep" / "b.html").unlink()
    assert "a.html leads to deep/b.html#here, which is no file" in faults(tmp_path)


@pytest.mark.parametrize("note", sorted(path.name for path in NOTES.glob("*.md")))
def test_no_index_is_read_as_emphasis(note):
    # _{b,j} ... _{b} after a prime or a bar: Markdown sets what is between in italics and drops both signs
    inline = [
        token for token in MarkdownIt().enable("table").parse((NOTES / note).read_text()) if token.children
    ]
    assert not [
        token.content
        for token in inline
        for each in token.children
        if each.tag == "em" and each.markup == "_"
    ]
