"""Claims and verdicts as one page of HTML that needs no other file."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from io import BytesIO
from math import inf, isfinite
from pathlib import Path
from urllib.parse import quote

from vitdyn._errors import as_path, invalid_value
from vitdyn._files import writable_beside
from vitdyn.claims import INCONCLUSIVE, REFUTED, SUPPORTED, Claim, Verdict, overall
from vitdyn.claims.claim import short
from vitdyn.pages.document import badge, document, table, text
from vitdyn.pages.prose import Prose, symbol
from vitdyn.plotting.arguments import checked
from vitdyn.plotting.claim_figure import draw_verdicts
from vitdyn.plotting.drawing import write_picture

_STATUSES = (SUPPORTED, REFUTED, INCONCLUSIVE)

_STYLE = """
h2 { display: flex; flex-wrap: wrap; gap: .4rem .8rem; align-items: center; justify-content: space-between; }
nav ul { list-style: none; padding: 0; margin: 2rem 0 0; }
nav li { display: grid; grid-template-columns: 10.5rem 1fr auto; gap: .2rem 1rem; align-items: baseline;
         padding: .5rem 0; border-bottom: 1px solid var(--rule); font-size: .92rem; }
nav p { margin: 0; grid-area: 1 / 2; }
p.statement { font-size: 1.1rem; margin: .7rem 0 1rem; }
@media (max-width: 40rem) {
  nav li { grid-template-columns: 1fr auto; } nav p { grid-area: 2 / 1 / auto / span 2; }
  p.statement { font-size: 1rem; } }
"""

_NOTE = re.compile(r"(?P<page>\w+)\.md(?P<anchor>#[\w-]+)")

_RULES = (
    "A claim predicts an open interval for one number, with margins written before the seeds that it judges ran "
    "(flows have no seeds: the notes say where a number was known before its margin). A case is "
    "supported where the whole measured interval lies inside, refuted where none of it does, and otherwise "
    "inconclusive, as is a case that breaks an assumption or gives no number. A control lacks the cause that "
    "the claim names, or moves its prediction, and must be refuted: where it is not, support of the claim does not "
    "count. A verdict on the mean field checks the theory's formulas against that reduction of the model, not against "
    "simulation; it says of training what the claims that compare the two say."
)


@checked
def write_claim_page(
    path: Path, claims: Iterable[Claim], verdicts: Sequence[Verdict], docs: str = ""
) -> Path:
    """Write ``claim_page`` to a file, whole or not at all; return its path.

    Raises ``ValueError`` where the folder cannot be written.
    """
    page = claim_page(claims, verdicts, docs)
    with writable_beside(path) as scratch:
        scratch.write_text(page, encoding="utf-8")
    return path


@checked
def claim_page(claims: Iterable[Claim], verdicts: Sequence[Verdict], docs: str = "") -> str:
    """Return a page of HTML on claims and what was found of each, figures and style inside it.

    ``docs`` is the address of the built documentation, from the page's own place or from anywhere; without one the
    sections of the notes are named and no links. The same verdicts give the same page: it holds no date.
    """
    by_claim = {claim: [each for each in verdicts if each.claim == claim.id] for claim in claims}
    statuses = {claim: overall(found) for claim, found in by_claim.items()}
    names = [claim.id for claim in by_claim]
    counts = ", ".join(f"{list(statuses.values()).count(status)} {status.lower()}" for status in _STATUSES)
    prose = {
        claim: Prose(claims=names, meanings=claim.symbols, symbols=f"{claim.id}-symbols")
        for claim in by_claim
    }
    listed = "\n".join(
        f'<li><a href="#{text(claim.id)}">{text(claim.id)}</a> {badge(status)} '
        f"<p>{prose[claim].set(claim.statement)}</p></li>"
        for claim, status in statuses.items()
    )
    sections = "\n".join(
        _section(claim, found, statuses[claim], prose[claim], docs) for claim, found in by_claim.items()
    )
    title = "Claims of the theory, checked"
    contents = f'<nav aria-label="Claims"><ul>\n{listed}\n</ul></nav>'
    body = f"<h1>{title}</h1>\n<p>{counts}.</p>\n<p>{_RULES}</p>\n{contents}\n{sections}"
    return document(title, body, style=_STYLE)


def docs_address(docs: str, page: Path) -> str:
    """Return where a page's links to the built documentation lead: an address as it is, a folder from the page's place.

    Raises ``ValueError`` where a folder holds none, so that no link of the page is dead.
    """
    if re.match(r"https?://", docs):
        return docs.rstrip("/")
    folder = as_path("docs", docs).resolve()
    if not folder.joinpath("claims.html").is_file():
        raise invalid_value(
            "docs", docs, "has no claims.html: name an address, or the folder that `make docs` filled"
        )
    return quote(os.path.relpath(folder, page.resolve().parent).replace(os.sep, "/"))


def _section(claim: Claim, verdicts: Sequence[Verdict], status: str, prose: Prose, docs: str) -> str:
    facts = {
        "Source": prose.set(claim.source),
        "Assumptions": prose.set(claim.assumed),
        "Finite check": prose.set(claim.surrogate),
        "Symbols": _symbols(claim, verdicts, prose),
        "Notes": _note(claim.note, docs),
    }
    listed = "".join(f"<dt>{name}</dt><dd>{words}</dd>\n" for name, words in facts.items() if words)
    found = (
        _figure(claim, verdicts, prose) + _numbers(verdicts, prose)
        if verdicts
        else "<p>No run was judged.</p>"
    )
    return (
        f'<section id="{text(claim.id)}">\n<h2>{text(claim.id)} {badge(status)}</h2>\n'
        f'<p class="statement">{prose.set(claim.statement)}</p>\n<dl>\n{listed}</dl>\n{found}\n</section>'
    )


def _symbols(claim: Claim, verdicts: Sequence[Verdict], prose: Prose) -> str:
    """Return the meanings of a claim's symbols, closed until a reader asks, by key or by a formula, for one."""
    said = (claim.statement, claim.assumed, claim.surrogate, claim.symbol, *(each.case for each in verdicts))
    meanings = prose.used(said)
    if not meanings:
        return ""
    plain = Prose()  # meanings lead nowhere
    listed = "".join(
        f"<dt>{symbol(name)}</dt><dd>{plain.set(words)}</dd>" for name, words in meanings.items()
    )
    return (
        f"<details><summary>{', '.join(map(symbol, meanings))}</summary>"
        f'<dl id="{text(claim.id)}-symbols">{listed}</dl></details>'
    )


def _note(note: str, docs: str) -> str:
    place = _NOTE.fullmatch(note)
    if not place:
        return text(note)
    words = f"<code>theory_notes/{text(note)}</code>"
    return f'<a href="{text(docs)}/{place["page"]}.html{place["anchor"]}">{words}</a>' if docs else words


def _figure(claim: Claim, verdicts: Sequence[Verdict], prose: Prose) -> str:
    # The picture is in the page itself, which then is one file to send.
    held = BytesIO()
    # Without matplotlib's version in it the same verdicts give the same page.
    write_picture(draw_verdicts(verdicts), held, {"Software": None})
    words = "; ".join(f"{each.case}: {each.interval}, {each.status.lower()}" for each in verdicts)
    return (
        f'<figure><img alt="{text(f"{claim.symbol}. {words}")}" '
        f'src="data:image/png;base64,{b64encode(held.getvalue()).decode()}">'
        f"<figcaption>{prose.set(claim.symbol)}: what was measured on each case, with its interval; shaded, the "
        "interval that the claim predicts.</figcaption></figure>\n"
    )


_COLUMNS = (
    "case", "verdict", "remark", "predicted", "measured", "interval", "count", "interval of", "judged on"
)  # fmt: skip


def _numbers(verdicts: Sequence[Verdict], prose: Prose) -> str:
    rows = (_row(verdict, prose) for verdict in verdicts)
    return table(_COLUMNS, rows, numeric=("predicted", "measured", "interval", "count"))


def _row(verdict: Verdict, prose: Prose) -> tuple[str, ...]:
    """Return the cells of a verdict, in the order of ``_COLUMNS``."""
    return (
        prose.set(verdict.case),
        badge(verdict.status),
        prose.set(verdict.remark),
        f"({_end(verdict.predicted_low)}, {_end(verdict.predicted_high)})",
        short(verdict.measured),
        f"[{_end(verdict.low)}, {_end(verdict.high)}]",
        str(verdict.count),
        prose.set(verdict.interval_of),
        prose.set(verdict.basis),
    )


def _end(number: float) -> str:
    """Return the end of an interval, which may be none."""
    return short(number) if isfinite(number) else {inf: "∞", -inf: "−∞"}.get(number, "–")
