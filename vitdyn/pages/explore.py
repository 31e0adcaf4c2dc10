"""A sweep as one page to explore: phase diagrams, the trajectories behind each cell, families, verdicts."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitdyn._errors import as_path, invalid_value, require_boolean
from vitdyn._extras import from_extra
from vitdyn._files import writable_beside
from vitdyn.claims import CLAIMS_BY_ID, INCONCLUSIVE, REFUTED, SUPPORTED, Claim, Verdict
from vitdyn.objectives import OBJECTIVES
from vitdyn.observables.learned import REGIMES
from vitdyn.pages.document import document, text
from vitdyn.pages.explore_cells import fitting, packed
from vitdyn.pages.explore_grid import Grid
from vitdyn.pages.prose import Prose, symbol
from vitdyn.plotting.regimes import ON_DARK, REGIME_COLOURS

if TYPE_CHECKING:
    import xarray

MOST_BYTES = 7_900_000
"""Of a page: it goes by mail."""
_SCRIPTS = ("data", "diagram", "cell", "verdicts", "page")


def write_explorer(
    path: str | Path,
    dataset: xarray.Dataset,
    *,
    verdicts: Sequence[Mapping[str, Any]] = (),
    progress: bool = False,
) -> tuple[Path, list[str]]:
    """Write ``explorer_page`` to a file, whole or not at all; return its path, and in words what was left out."""
    require_boolean("progress", progress)
    target = as_path("path", path)
    page, left_out = explorer_page(dataset, verdicts=verdicts, progress=progress)
    with writable_beside(target) as scratch:
        scratch.write_text(page, encoding="utf-8")
    return target, left_out


def explorer_page(
    dataset: xarray.Dataset, *, verdicts: Sequence[Mapping[str, Any]] = (), progress: bool = False
) -> tuple[str, list[str]]:
    """Return a page of HTML that shows what ``vd.collect`` returns, and in words what was left out to keep it small.

    It needs no other file and no network. The same results give the same page. ``verdicts`` are those of
    ``read_verdicts``. Raises ``ValueError`` for a sweep that does not fit a page.
    """
    with from_extra("web"):
        from plotly.offline import get_plotlyjs
    grid = Grid.of(dataset)
    about = _about(grid, verdicts)
    held = packed(about)
    static = files("vitdyn.pages") / "static"
    style = (static / "explore.css").read_text(encoding="utf-8")
    own = "\n".join((static / f"explore_{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS)
    body = (static / "explore.html").read_text(encoding="utf-8").replace("{{claims}}", _statements(verdicts))
    # the library's text has no end of a script in it, but a later version's may
    script = f"{get_plotlyjs()}\n{own}".replace("</script", "<\\/script")
    room = MOST_BYTES - sum(len(part.encode()) for part in (held, style, body, script)) - 20_000
    cells, left_out = fitting(grid, room, show=progress)
    if left_out:
        about["left_out"] = left_out
        held = packed(about)
    body = body.replace("{{about}}", held).replace("{{cells}}", cells)
    return document(f"Explorer: {grid.name}", body, style=style, script=script), left_out


def read_verdicts(path: str | Path) -> list[dict[str, Any]]:
    """Return the verdicts that ``vitdyn check --json`` wrote; None stands for an open end, or for no number.

    Raises ``ValueError`` for a file that holds anything else.
    """
    source = as_path("verdicts", path)
    names = {field.name for field in fields(Verdict)}
    statuses = (SUPPORTED, REFUTED, INCONCLUSIVE)
    try:
        found = json.loads(source.read_text(encoding="utf-8"))
        sound = isinstance(found, list) and all(
            isinstance(each, dict) and each.keys() == names and each["status"] in statuses for each in found
        )
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise invalid_value("verdicts", str(path), f"cannot be read: {reason}") from error
    if not sound:
        raise invalid_value("verdicts", str(path), "must be what vitdyn check --json writes")
    return found


def _about(grid: Grid, verdicts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the page's script has to know besides cells."""
    return {
        "name": grid.name,
        "axes": [{"name": name, "labels": labels} for name, labels in grid.axes.items()],
        "families": _families(grid.axes),
        "kinds": [
            {"name": name, "colour": REGIME_COLOURS[name], "light": name in ON_DARK} for name in REGIMES
        ],
        "verdicts": list(verdicts),
        "left_out": [],
    }


def _statements(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """Return what the judged claims say, with what their symbols mean."""
    judged = {verdict["claim"] for verdict in verdicts}
    return "\n".join(_statement(claim, judged) for name, claim in CLAIMS_BY_ID.items() if name in judged)


def _statement(claim: Claim, judged: Collection[str]) -> str:
    prose, plain = Prose(claims=judged, meanings=claim.symbols), Prose()
    meanings = prose.used((claim.statement, claim.surrogate, claim.symbol))
    symbols = "".join(
        f"<dt>{symbol(name)}</dt><dd>{plain.set(words)}</dd>" for name, words in meanings.items()
    )
    return (
        f'<article class="statement" id="{text(claim.id)}" tabindex="-1"><h3>{text(claim.id)}</h3>'
        f"<p>{prose.set(claim.statement)}</p>"
        f'<p class="quiet">{prose.set(claim.source)}. Checked at: {prose.set(claim.surrogate)}</p>'
        + (f"<details><summary>Symbols</summary><dl>{symbols}</dl></details>" if symbols else "")
        + "</article>"
    )


def _families(axes: Mapping[str, Sequence[Any]]) -> dict[str, Any] | None:
    """Return the axis whose labels all name objectives, and the places of the labels by the survey's families."""
    for number, labels in enumerate(axes.values()):
        kinds = [OBJECTIVES.get(str(label).partition(",")[0]) for label in labels]
        if all(kinds) and len(labels) > 1:
            groups: dict[str, list[int]] = {kind.family: [] for kind in OBJECTIVES.values()}
            for place, kind in enumerate(kinds):
                groups[kind.family].append(place)  # type: ignore[union-attr]
            return {"axis": number, "groups": {name: own for name, own in groups.items() if own}}
    return None
