"""The pieces of a sentence that may hold formulas: numbers, letters, words, signs."""

from __future__ import annotations

import re
from typing import NamedTuple
from unicodedata import normalize

FUNCTIONS = ("log", "max", "min", "cos", "exp", "Var", "NMI")
POWERS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹*⁺ᵀ'", "0123456789∗+⊤′", strict=True))
INDICES = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
BAR = "\N{COMBINING MACRON}"

_LETTER = "A-Za-zÀ-ɏ"
_TOKEN = re.compile(
    rf"""
    (?P<number>(?:\d+(?:\.\d+)*(?:e[+-]?\d+)?|[½¼])(?![{_LETTER}]{{2}}))
  | (?P<function>(?:{"|".join(FUNCTIONS)})(?![{_LETTER}'’]|-[{_LETTER}]))
  | (?P<differential>dt(?![{_LETTER}\d]))
  | (?P<word>\w+://\S+
        | [{_LETTER}]\.(?:[{_LETTER}]\.)+  # e.g.
        | \d*[{_LETTER}](?:[{_LETTER}]|['’-](?=[{_LETTER}\d]))[{_LETTER}\d_'’.-]*(?<![.-])
        | [{_LETTER}]\d[{_LETTER}\d_]*  # v3
        | ['’]\w+)
  | (?P<letter>[A-Za-zͰ-΢Τ-Ͽℓ]{BAR}?)
  | (?P<script>[_^])
  | (?P<power>[{"".join(map(re.escape, POWERS))}]+)
  | (?P<index>[{"".join(INDICES)}]+)
  | (?P<prefix>[−±+∂∇Σ])
  | (?P<operator>[=<>≤≥≈≍∝→←≠∈·×/])
  | (?P<root>√)
  | (?P<bar>[|‖])
  | (?P<open>[(\[{{⟨])
  | (?P<close>[)\]}}⟩])
  | (?P<comma>,)
  | (?P<space>[ ])
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """A piece of a sentence: of what kind it is, and its characters."""

    kind: str
    text: str


def tokens_of(sentence: str) -> list[Token]:
    """Return a sentence in pieces, which put together are the sentence; a bar stands behind its letter."""
    return [Token(str(found.lastgroup), found[0]) for found in _TOKEN.finditer(_with_bars_apart(sentence))]


def _with_bars_apart(sentence: str) -> str:
    """Return a sentence in which Ā is A and a bar, as θ̄ is everywhere, which has no character of its own."""
    parts = (normalize("NFD", character) for character in sentence)
    return "".join(part if part.endswith(BAR) else whole for part, whole in zip(parts, sentence, strict=True))
