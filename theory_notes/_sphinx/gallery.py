"""The gallery: every figure with its picture, what its script says of it, the claims it is about, and its command."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from docutils import nodes
from reference import escaped
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from vitdyn.claims import CLAIMS

ROOT = Path(__file__).parents[2]
_NOTES = {claim.id: claim.note for claim in CLAIMS}
_ID = re.compile(r"\b[A-Z][A-Z0-9]+(?:-[A-Z0-9]+)+\b")


class Gallery(SphinxDirective):
    """Show the figures of ``sims/``, with the pictures that ``make figures`` has drawn."""

    def run(self) -> list[nodes.Node]:
        """Return the parsed sections."""
        lines: list[str] = []
        for script in sorted((ROOT / "sims").glob("[0-9]*.py")):
            self.env.note_dependency(script)
            lines += figure(script)
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def figure(script: Path) -> list[str]:
    """Return the section of a figure."""
    words = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    title, _, rest = words.partition("\n")
    about, _, facts = rest.partition("\nClaims:")
    claims, _, run = facts.partition("\nRun:")
    lines = [escaped(title.rstrip(".")), "-" * (len(title) + 20), "", *_pictures(script, title)]
    lines += [*escaped(about.strip()).splitlines(), ""]
    lines += [f":Claims: {_ID.sub(_linked, escaped(' '.join(claims.split())))}"]
    command, *more = run.strip().splitlines()
    lines += [f":Command: ``{command.strip()}``"]
    more = [line.strip().removeprefix("Takes:").strip() for line in more]
    return [*lines, f":Takes: {escaped(' '.join(more))}", ""]


def _linked(found: re.Match[str]) -> str:
    note = _NOTES.get(found[0])
    return f"`{found[0]} <{note.replace('.md', '.html')}>`__" if note else found[0]


def _pictures(script: Path, title: str) -> list[str]:
    """Return the pictures that were drawn, or say that there is none and how to have it."""
    drawn = sorted((ROOT / "figures").glob(f"{script.stem}*.png"))
    if not drawn:
        return [
            ".. container:: undrawn",
            "",
            f"   Not drawn when these pages were built: ``python sims/{script.name}`` draws it, ``make figures``",
            "   draws all, and the next ``make docs`` shows them.",
            "",
        ]
    words = escaped(title.rstrip("."))
    return [
        line
        for picture in drawn
        for line in (f".. figure:: ../figures/{picture.name}", f"   :alt: {words}", "   :loading: lazy", "")
    ]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("gallery", Gallery)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
