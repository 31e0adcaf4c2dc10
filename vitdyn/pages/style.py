"""The one style of all pages: light and dark as the reader's system is, on a screen, a phone and paper."""

from __future__ import annotations

from vitdyn.claims import INCONCLUSIVE, REFUTED, SUPPORTED
from vitdyn.pages import math_font
from vitdyn.plotting.claim_figure import STATUS_COLOURS

LIGHT = {
    "paper": "#ffffff",
    "panel": "#f5f6f7",
    "ink": "#1c1c1c",
    "quiet": "#595959",
    "rule": "#c8ccd0",
    "link": "#00507d",
    SUPPORTED: STATUS_COLOURS[SUPPORTED],
    REFUTED: STATUS_COLOURS[REFUTED],
    INCONCLUSIVE: STATUS_COLOURS[INCONCLUSIVE],
}
DARK = {
    "paper": "#15181c",
    "panel": "#20252b",
    "ink": "#e4e6e8",
    "quiet": "#a9b0b7",
    "rule": "#3c434b",
    "link": "#8ccbf2",
    SUPPORTED: "#4fc9a4",
    REFUTED: "#ff9f5f",
    INCONCLUSIVE: "#b7bcc2",
}
"""Colours by their use, the same names in both; a rule reads ``var(--ink)``. All words have a contrast of 4.5 or more
on paper and panel (WCAG 2.2, AA), and statuses differ in their marks too, for those who see no colours."""

MARKS = {SUPPORTED: "●", REFUTED: "✕", INCONCLUSIVE: "◆"}
"""What a status is drawn as in figures."""


_MATH_FONTS = "'STIX Two Math', 'Cambria Math', 'Latin Modern Math'"
"""Fonts of mathematics that systems bring: Apple's, Windows', some Linux's. Others show those of text."""


def _variables(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())


STYLE = (
    f":root {{ color-scheme: light dark; {_variables(LIGHT)} }}\n"
    f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}\n"
    # what a page's own switch says, whatever the system's is
    f':root[data-theme="light"] {{ color-scheme: light; {_variables(LIGHT)} }}\n'
    f':root[data-theme="dark"] {{ color-scheme: dark; {_variables(DARK)} }}\n'
    """
body { margin: 0 auto; max-width: 54rem; padding: 2.5rem 1.25rem 5rem; background: var(--paper); color: var(--ink);
       font: 16px/1.55 Georgia, "DejaVu Serif", serif; overflow-wrap: break-word; }
h1, h2, h3, th, dt, figcaption, button, select, input, label, summary, .status, .quiet {
  font-family: "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.15rem; margin: 0; }
section { border-top: 1px solid var(--rule); padding-top: 1.6rem; margin-top: 2.4rem; }
math { font-size: 1.05em; }
code { font: .85em "DejaVu Sans Mono", Menlo, Consolas, monospace; }
a.formula { color: inherit; text-decoration: none; }
a.formula:hover { background: var(--panel); outline: 1px solid var(--rule); border-radius: 2px; }
summary { cursor: pointer; } summary math { font-size: 1.1em; }
details dl { grid-template-columns: auto 1fr; margin: .4rem 0 .6rem; }
details dt { font-size: inherit; color: inherit; padding: 0; }
a { color: var(--link); text-underline-offset: .15em; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; border-radius: 2px; }
dl { display: grid; grid-template-columns: 8rem 1fr; gap: .35rem 1rem; font-size: .92rem; }
dt { color: var(--quiet); font-size: .82rem; padding-top: .12rem; } dd { margin: 0; }
figure { margin: 1.4rem 0; } figure img { width: 100%; height: auto; }
figcaption, .quiet { color: var(--quiet); font-size: .82rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; font-size: .8rem; color: var(--quiet);
     border-bottom: 1.5px solid var(--quiet); }
th, td { padding: .35rem .9rem .35rem 0; vertical-align: top; }
td { border-bottom: 1px solid var(--rule); } .number, .unbroken { white-space: nowrap; }
.status { color: var(--paper); border-radius: .2rem; padding: .08rem .5rem; font-size: .76rem; font-weight: 600;
          letter-spacing: .03em; white-space: nowrap; print-color-adjust: exact; }
"""
    + "".join(
        f'.{status} {{ background: var(--{status}); }} .{status}::before {{ content: "{mark}\\00a0"; }}\n'
        for status, mark in MARKS.items()
    )
    + f"math, math * {{ font-family: {_MATH_FONTS}, Georgia, 'DejaVu Serif', serif; }}\n"
    f"math :is(msub, msup, msubsup) {{ font-family: {_MATH_FONTS}, '{math_font.NAME}', serif; }}\n"
    f"math msqrt {{ font-family: {_MATH_FONTS}, 'DejaVu Sans', sans-serif; }}\n"
    """
@media (max-width: 40rem) {
  figure { overflow-x: auto; } figure img { min-width: 34rem; }
  body { padding: 1.5rem 1rem 3rem; } dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
@media screen and (prefers-color-scheme: dark) {
  figure img { filter: invert(1) hue-rotate(180deg); mix-blend-mode: screen; } }
@media print { details::details-content { content-visibility: visible; display: block; }
  body { max-width: none; padding: 0; font-size: 10.5pt; } a { color: inherit; }
  figure, tr { break-inside: avoid; } h2 { break-after: avoid; } .wide { overflow: visible; } }
"""
).strip()
"""Style sheet of every page; a page adds the few rules that are its own."""
