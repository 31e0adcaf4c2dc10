"""Claims and verdicts as one page of HTML that needs no other file."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

from vitdyn._files import writable_beside
from vitdyn.claims import INCONCLUSIVE, REFUTED, SUPPORTED, Claim, Verdict, overall
from vitdyn.claims.claim import short
from vitdyn.pages.document import badge, document, table, text
from vitdyn.plotting.arguments import checked
from vitdyn.plotting.claim_figure import draw_verdicts
from vitdyn.plotting.drawing import write_picture

_STATUSES = (SUPPORTED, REFUTED, INCONCLUSIVE)

_STYLE = """
h2 { display: flex; flex-wrap: wrap; gap: .4rem .8rem; align-items: center; justify-content: space-between; }
p.statement { font-size: 1.1rem; margin: .7rem 0 1rem; }
"""

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
    contents = table(
        ("claim", "statement", "verdict"),
        (
            (f'<a href="#{text(claim.id)}">{text(claim.id)}</a>', text(claim.statement), badge(status))
            for claim, status in statuses.items()
        ),
    )
    sections = "\n".join(_section(claim, found, statuses[claim]) for claim, found in by_claim.items())
    title = "Claims of the theory, checked"
    body = f"<h1>{title}</h1>\n<p>{counts}.</p>\n<p>{_RULES}</p>\n<nav>{contents}</nav>\n{sections}"
    return document(title, body, style=_STYLE)


def _section(claim: Claim, verdicts: Sequence[Verdict], status: str) -> str:
    facts = {
        "Source": claim.source,
        "Assumptions": claim.assumed,
        "Finite check": claim.surrogate,
        "Notes": claim.note,
    }
    listed = "".join(f"<dt>{name}</dt><dd>{text(words)}</dd>" for name, words in facts.items())
    found = _figure(claim, verdicts) + _numbers(verdicts) if verdicts else "<p>No run was judged.</p>"
    return (
        f'<section id="{text(claim.id)}">\n<h2>{text(claim.id)} {badge(status)}</h2>\n'
        f'<p class="statement">{text(claim.statement)}</p>\n<dl>{listed}</dl>\n{found}\n</section>'
    )


def _figure(claim: Claim, verdicts: Sequence[Verdict]) -> str:
    # The picture is in the page itself, which then is one file to send.
    held = BytesIO()
    # Without matplotlib's version in it the same verdicts give the same page.
    write_picture(draw_verdicts(verdicts), held, {"Software": None})
    words = "; ".join(f"{each.case}: {each.interval}, {each.status.lower()}" for each in verdicts)
    return (
        f'<figure><img alt="{text(f"{claim.symbol}. {words}")}" '
        f'src="data:image/png;base64,{b64encode(held.getvalue()).decode()}">'
        f"<figcaption>{text(claim.symbol)}: what was measured on each case, with its interval; shaded, the "
        "interval that the claim predicts.</figcaption></figure>\n"
    )


_COLUMNS = (
    "case", "judged on", "predicted", "measured", "interval", "interval of", "count", "verdict", "remark"
)  # fmt: skip


def _numbers(verdicts: Sequence[Verdict]) -> str:
    return table(_COLUMNS, map(_row, verdicts), numeric=("predicted", "measured", "interval", "count"))


def _row(verdict: Verdict) -> tuple[str, ...]:
    """Return the cells of a verdict, in the order of ``_COLUMNS``."""
    interval = f"[{short(verdict.low)}, {short(verdict.high)}]"
    cells = map(text, (verdict.case, verdict.basis, verdict.predicted, short(verdict.measured), interval))
    return (
        *cells,
        text(verdict.interval_of),
        str(verdict.count),
        badge(verdict.status),
        text(verdict.remark),
    )
