"""Formulas in sentences, found by their characters alone and set as MathML.

Claims, cases and notes are written in Unicode, as the theory is everywhere in the package: ``P^{1 − κ_s}``. What is a
formula there shows: Greek letters, single Latin letters that are no words, scripts, relations, and what these hold
together. MathML has the same structure, so no other language stands between the two.

>>> [str(part) for part in formulas_in("A run takes 400 steps at P = 256, a time of order P^{1 − κ_s}.")]
['A run takes 400 steps at ', 'P = 256', ', a time of order ', 'P^{1 − κ_s}', '.']
"""

from __future__ import annotations

from dataclasses import dataclass

from vitdyn.pages.mathml import STARTS, Reader
from vitdyn.pages.tokens import tokens_of


@dataclass(frozen=True)
class Formula:
    """A formula as it was written, as MathML, and the names of its symbols in the order of their first use.

    >>> formula = formulas_in("γ_c = 1/τ*")[0]
    >>> formula.symbols
    ('γ_c', 'τ*')
    """

    source: str
    mathml: str
    symbols: tuple[str, ...]

    def __str__(self) -> str:
        return self.source


def formulas_in(sentence: str) -> list[str | Formula]:
    """Return a sentence as words and formulas in turn; put together they are the sentence."""
    tokens = tokens_of(sentence)
    found: list[str | Formula] = []
    words, index = "", 0
    while index < len(tokens):
        reader = Reader(tokens, index)
        content = reader.read() if tokens[index].kind in STARTS else ""
        if content:
            source = "".join(token.text for token in tokens[index : reader.index])
            found += [words] * bool(words)
            symbols = tuple(sorted(reader.symbols, key=reader.symbols.__getitem__))
            found.append(Formula(source, f"<math>{content}</math>", symbols))
            words, index = "", reader.index
        else:
            words, index = words + tokens[index].text, index + 1
    return [*found, words] if words else found
