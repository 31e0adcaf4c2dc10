"""Formulas as MathML, which browsers draw and read aloud by themselves: pages need neither scripts nor a network.

Notes write LaTeX in fences. Docstrings write equations as lines of Unicode, ``Δ = (1 − κ_s) − 2(1 − κ_c)``, of which
``latex_of`` makes LaTeX: a whole line is an equation, its words too. Those in sentences, ``φ_1``, are found by
``vitdyn.pages.formula``.
"""

from __future__ import annotations

import re
from typing import Any
from unicodedata import normalize

from docutils import nodes
from latex2mathml.converter import convert
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from vitdyn.pages.formula import Formula, formulas_in

_FUNCTIONS = {
    "log", "exp", "max", "min", "inf", "cos", "corr", "Cov", "Var", "softmax", "sg", "LN", "Ei", "ctr", "gelu", "norm",
    "attn",
}  # fmt: skip
_SHORT_WORDS = {"an", "of", "in", "at", "or", "to", "is", "on", "no", "by", "as", "if", "it", "so"}
_SIGNS = {
    "−": "-", "·": r"\cdot ", "×": r"\times ", "→": r"\to ", "←": r"\leftarrow ", "≤": r"\le ", "≥": r"\ge ",
    "≠": r"\ne ", "≈": r"\approx ", "∈": r"\in ", "∞": r"\infty ", "⟨": r"\langle ", "⟩": r"\rangle ", "‖": r"\| ",
    "Σ": r"\sum ", "½": r"\tfrac{1}{2}", "φ": r"\varphi ", "ε": r"\varepsilon ", "ℓ": r"\ell ", "∂": r"\partial ",
    "{": r"\{", "}": r"\}", "...": r"\dots ",
}  # fmt: skip
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-", "") | {ord("ᵀ"): r"\top"}
_TOKEN = re.compile(
    r"``(?P<code>\w+)``|(?P<letters>[A-Za-z]{2,}(?:'s\b)?)|(?P<raised>[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀ]+|(?<=\w)\*)"
    r"|(?P<script>[_^])(?:\{|(?P<index>κ_[cs]|[A-Za-z]+|[\d.]*\d|.))"
    r"|√(?:\(|(?P<root>[^\W\d_](?:_\w)?|\d+))|(?P<barred>[A-Za-z]\u0304|Ā)|1e(?P<power>-?\d+)"
    r"|(?P<gap> {2,})|(?P<sign>\.\.\.|.)"
)


def latex_of(block: str) -> str:
    """Return the LaTeX of an equation in a docstring: lines, or a table with two spaces between its columns."""
    rows = [re.split(r"(?<![,;: ]) {2,}|^ {2,}", line) for line in block.splitlines()]
    width = max(map(len, rows))
    if len(rows) == 1 or width == 1:
        return r" \\ ".join(map(_latex, block.splitlines()))
    lines = r" \\ ".join(" & ".join(map(_latex, row)) for row in rows)
    return rf"\begin{{array}}{{{'l' * width}}}{lines}\end{{array}}"


def _latex(plain: str) -> str:
    out, at = "", 0
    while found := _TOKEN.match(plain, at):
        at = found.end()
        if found["script"]:
            inside, at = (found["index"], at) if found["index"] else _inside(plain, at)
            word = len(found["index"] or "") > 2 and inside.isalpha()  # not the i and j of Cov_ij
            out += found["script"] + (rf"{{\mathrm{{{inside}}}}}" if word else f"{{{_latex(inside)}}}")
        elif found[0][0] == "√":
            inside, at = (found["root"], at) if found["root"] else _inside(plain, at)
            out += rf"\sqrt{{{_latex(inside)}}}"
        else:
            out += _token(found)
    # words beside each other are one text, and keep the spaces about it
    while (joined := re.sub(r"\\text\{([^{}]*)\} (a )?\\text\{", r"\\text{\1 \2", out)) != out:
        out = joined
    return re.sub(r"(\\text\{[^{}]*)\} ", r"\1 }", re.sub(r"(?<!qquad) \\text\{", r"\\text{ ", out))


def _token(found: re.Match[str]) -> str:
    match found.lastgroup:
        case "code":
            return rf"\texttt{{{found['code']}}}"
        case "letters":
            return _letters(found["letters"])
        case "raised":
            return f"^{{{found['raised'].translate(_RAISED)}}}"
        case "barred":
            return rf"\bar{{{normalize('NFD', found['barred'])[0]}}}"
        case "power":
            return f"10^{{{found['power']}}}"
        case "gap":
            return r"\qquad "
    return _SIGNS.get(found[0], found[0])


def _letters(run: str) -> str:
    """Return the LaTeX of a function's name, of a word, or of variables that are multiplied."""
    if run in _FUNCTIONS:
        return (
            rf"\{run} " if run in ("log", "exp", "max", "min", "inf", "cos") else rf"\operatorname{{{run}}}"
        )
    return rf"\text{{{run}}}" if len(run) > 2 or run in _SHORT_WORDS else run


def _inside(plain: str, start: int) -> tuple[str, int]:
    """Return what stands before the bracket that closes the one just before ``start``, and where one goes on."""
    depth, opening = 1, plain[start - 1]
    closing = {"{": "}", "(": ")"}[opening]
    for at in range(start, len(plain)):
        depth += (plain[at] == opening) - (plain[at] == closing)
        if not depth:
            return plain[start:at], at + 1
    raise ExtensionError(f"no {closing} closes the formula {plain!r}")


def mathml(latex: str, display: str = "inline") -> str:
    """Return the MathML of LaTeX; refuse what the converter would pass over in silence.

    Three things are written as the converter knows them, and names of functions get the space that they have in print.
    """
    for other, known in ((r"\lVert", r"\|"), (r"\rVert", r"\|"), ("{aligned}", "{align*}")):
        latex = latex.replace(other, known)
    latex = re.sub(r"\\mathcal (\w)", r"\\mathcal{\1}", latex)
    markup = convert(latex, display=display)
    if lost := re.search(r"\\\w+|<m[io]>&<|mathvariant=\"(?!normal|monospace)\w+", markup):
        raise ExtensionError(f"latex2mathml does not know {lost[0]!r} of the formula {latex!r}")
    name = r"<m[io]>([A-Za-z]{2,})</m[io]>"
    markup = re.sub(
        name + r'(?=<mo stretchy="false">&#x00028)', r'<mo lspace="0.17em" rspace="0">\1</mo>', markup
    )
    return re.sub(name, r'<mo lspace="0.17em" rspace="0.17em">\1</mo>', markup)


_NO_PROSE = (
    nodes.FixedTextElement, nodes.Invisible, nodes.literal, nodes.math, nodes.raw, nodes.reference, nodes.title,
    addnodes.desc_signature,
)  # fmt: skip
_HALF_FOUND = re.compile(r"\^|(?<![A-Za-z0-9])_|\b[A-Za-zͰ-Ͽ]_|_(?![a-z])|[√‖⟨⟩]")


def set_in_sentences(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Set the formulas of sentences; a sentence in which one is found in part only stays as it is written."""
    for text in list(doctree.findall(nodes.Text)):
        above = text.parent
        while above is not None and not isinstance(above, _NO_PROSE):
            above = above.parent
        parts = formulas_in(_in_print(text.astext())) if above is None else []
        words = [part for part in parts if isinstance(part, str)]
        if len(words) == len(parts) or any(map(_HALF_FOUND.search, words)):
            continue
        text.parent.replace(
            text, [nodes.Text(part) if isinstance(part, str) else _set(part) for part in parts]
        )


def _in_print(sentence: str) -> str:
    """Return a sentence on one line, with the signs of print for those of a keyboard: 16 × 16, Δ = −0.3."""
    return re.sub(
        r"(?<=\d) x (?=\d)",
        " × ",
        re.sub(r"(?<=[=(/] )-(?=[\d.])|(?<=\d )-(?= )", "−", sentence.replace("\n", " ")),
    )


def _set(formula: Formula) -> nodes.raw:
    long = len(formula.source) > 24  # wider than a phone
    markup = f'<span class="long">{formula.mathml}</span>' if long else formula.mathml
    return nodes.raw("", markup, format="html")


def inline(self: Any, node: nodes.math) -> None:
    """Write a formula within a line."""
    self.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def displayed(self: Any, node: nodes.math_block) -> None:
    """Write formulas of their own lines; what a gap parts goes below each other where the window is narrow."""
    latex = node.astext()
    whole = r"\begin" in latex
    for line in [latex] if whole else re.split(r"\\\\(?= )", latex):
        parts = [line] if whole else [part for part in re.split(r"\\qquad", line) if part.strip()]
        formulas = "".join(f"<span>{mathml(part, 'block')}</span>" for part in parts)
        self.body.append(f'<div class="formula">{formulas}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer, which ``html_math_renderer`` names."""
    app.connect("doctree-resolved", set_in_sentences, priority=600)  # after links
    app.add_html_math_renderer("formulas", (inline, None), (displayed, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
