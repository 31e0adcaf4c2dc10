"""Claims and verdicts as one page of HTML that needs no other file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO
from pathlib import Path

from vitdyn._files import writable_beside
from vitdyn.claims import INCONCLUSIVE, REFUTED, SUPPORTED, Claim, Verdict, overall
from vitdyn.claims.claim import short
from vitdyn.plotting.arguments import checked
from vitdyn.plotting.claim_figure import STATUS_COLOURS, draw_verdicts
from vitdyn.plotting.drawing import write_picture

_STATUSES = (SUPPORTED, REFUTED, INCONCLUSIVE)

_CSS = (
    """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 54rem; padding: 2.5rem 1.25rem 5rem; background: #fff; color: #1c1c1c;
       font: 16px/1.55 Georgia, "DejaVu Serif", serif; }
h1, h2, th, .status, nav, dt, figcaption { font-family: "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .4rem; }
h2 { font-size: 1.15rem; margin: 0; display: flex; gap: .8rem; align-items: center; justify-content: space-between; }
section { border-top: 1px solid #ccc; padding-top: 1.6rem; margin-top: 2.4rem; }
p.statement { font-size: 1.1rem; margin: .7rem 0 1rem; }
dl { display: grid; grid-template-columns: 8rem 1fr; gap: .35rem 1rem; font-size: .92rem; }
dt { color: #595959; font-size: .82rem; padding-top: .12rem; } dd { margin: 0; }
figure { margin: 1.4rem 0; } figure img { width: 100%; height: auto; }
figcaption { color: #595959; font-size: .82rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; font-size: .8rem; color: #595959; border-bottom: 1.5px solid #888; }
th, td { padding: .35rem .9rem .35rem 0; vertical-align: top; }
td { border-bottom: 1px solid #e4e4e4; } td.number { white-space: nowrap; }
.status { color: #fff; border-radius: .2rem; padding: .08rem .5rem; font-size: .76rem; font-weight: 600;
          letter-spacing: .03em; white-space: nowrap; }
a { color: #00507d; }
@media print { section { break-inside: avoid; } }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
""".strip()
    + "".join(f"\n.{status} {{ background: {STATUS_COLOURS[status]}; }}" for status in _STATUSES)
)

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
def write_claim_page(path: Path, claims: Iterable[Claim], verdicts: Sequence[Verdict]) -> Path:
    """Write ``claim_page`` to a file, whole or not at all; return its path.

    Raises ``ValueError`` where the folder cannot be written.
    """
    text = claim_page(claims, verdicts)
    with writable_beside(path) as scratch:
        scratch.write_text(text, encoding="utf-8")
    return path


@checked
def claim_page(claims: Iterable[Claim], verdicts: Sequence[Verdict]) -> str:
    """Return a page of HTML on claims and what was found of each, figures and style inside it.

    The same verdicts give the same page: it holds no date.
    """
    by_claim = {claim: [each for each in verdicts if each.claim == claim.id] for claim in claims}
    statuses = {claim: overall(found) for claim, found in by_claim.items()}
    counts = ", ".join(f"{list(statuses.values()).count(status)} {status.lower()}" for status in _STATUSES)
    contents = _table(
        ("claim", "statement", "verdict"),
        (
            (f'<a href="#{_text(claim.id)}">{_text(claim.id)}</a>', _text(claim.statement), _badge(status))
            for claim, status in statuses.items()
        ),
    )
    sections = "\n".join(_section(claim, found, statuses[claim]) for claim, found in by_claim.items())
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Claims of the theory, checked</title>\n<style>\n{_CSS}\n</style>\n</head>\n<body>\n"
        f"<h1>Claims of the theory, checked</h1>\n<p>{counts}.</p>\n<p>{_RULES}</p>\n"
        f"<nav>{contents}</nav>\n{sections}\n</body>\n</html>\n"
    )


def _section(claim: Claim, verdicts: Sequence[Verdict], status: str) -> str:
    facts = {
        "Source": claim.source,
        "Assumptions": claim.assumed,
        "Finite check": claim.surrogate,
        "Notes": claim.note,
    }
    listed = "".join(f"<dt>{name}</dt><dd>{_text(words)}</dd>" for name, words in facts.items())
    found = _figure(claim, verdicts) + _numbers(verdicts) if verdicts else "<p>No run was judged.</p>"
    return (
        f'<section id="{_text(claim.id)}">\n<h2>{_text(claim.id)} {_badge(status)}</h2>\n'
        f'<p class="statement">{_text(claim.statement)}</p>\n<dl>{listed}</dl>\n{found}\n</section>'
    )


def _figure(claim: Claim, verdicts: Sequence[Verdict]) -> str:
    # The picture is in the page itself, which then is one file to send.
    held = BytesIO()
    # Without matplotlib's version in it the same verdicts give the same page.
    write_picture(draw_verdicts(verdicts), held, {"Software": None})
    words = "; ".join(f"{each.case}: {each.interval}, {each.status.lower()}" for each in verdicts)
    return (
        f'<figure><img alt="{_text(f"{claim.symbol}. {words}")}" '
        f'src="data:image/png;base64,{b64encode(held.getvalue()).decode()}">'
        f"<figcaption>{_text(claim.symbol)}: what was measured on each case, with its interval; shaded, the "
        "interval that the claim predicts.</figcaption></figure>\n"
    )


_COLUMNS = (
    "case", "judged on", "predicted", "measured", "interval", "interval of", "count", "verdict", "remark"
)  # fmt: skip


def _numbers(verdicts: Sequence[Verdict]) -> str:
    return _table(_COLUMNS, map(_row, verdicts))


def _row(verdict: Verdict) -> tuple[str, ...]:
    """Return the cells of a verdict, in the order of ``_COLUMNS``."""
    interval = f"[{short(verdict.low)}, {short(verdict.high)}]"
    cells = map(_text, (verdict.case, verdict.basis, verdict.predicted, short(verdict.measured), interval))
    return (
        *cells,
        _text(verdict.interval_of),
        str(verdict.count),
        _badge(verdict.status),
        _text(verdict.remark),
    )


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table of cells that are HTML already."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    numeric = {"measured", "interval", "count", "predicted"}
    kinds = [' class="number"' if name in numeric else "" for name in header]
    lines = (
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _badge(status: str) -> str:
    return f'<span class="status {status}">{status}</span>'


def _text(words: str) -> str:
    return escape(words, quote=True)
