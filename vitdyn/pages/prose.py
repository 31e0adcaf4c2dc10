"""Sentences of claims as HTML: formulas set, and what can be followed made a link."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain

from vitdyn.claims.sources import ARXIV
from vitdyn.claims.symbols import SYMBOLS
from vitdyn.pages.document import text
from vitdyn.pages.formula import Formula, formulas_in

_LINKED = re.compile(
    r"(?P<work>(?P<author>[A-Z]\w+) et al\.(?:'s)? \((?P<year>\d{4})\))"
    r"|arXiv[ :](?P<arxiv>\d{4}\.\d{4,5})"
    r"|(?P<claim>\b[A-Z][A-Z0-9]+(?:-[A-Z0-9]+)*\b)"
    r"|(?P<code>\b[a-z]+(?:\.[a-z]+)*(?:_[a-z]+)+\b)"
)


@dataclass(frozen=True, kw_only=True)
class Prose:
    """Sets the sentences of one claim, or of none.

    A formula shows what its symbols mean and leads to ``symbols``, the id of a list of them; the names of ``claims``
    lead to their sections. ``meanings`` are those of the claim's own symbols.

    >>> Prose(claims=("MAE-TIME",)).set("As MAE-TIME.")
    'As <a href="#MAE-TIME">MAE-TIME</a>.'
    """

    claims: Collection[str] = ()
    meanings: Mapping[str, str] = field(default_factory=dict)
    symbols: str = ""

    def set(self, sentence: str) -> str:
        """Return a sentence as HTML."""
        parts, found = formulas_in(sentence), []
        for before, part, after in zip(["", *parts], parts, [*parts[1:], ""], strict=False):
            if isinstance(part, Formula):
                closing = _closing(after)
                formula = self._formula(part)
                found.append(
                    f'<span class="unbroken">{formula}{text(closing)}</span>' if closing else formula
                )
            else:
                found.append(self._words(part[len(_closing(part)) :] if before else part))
        return "".join(found)

    def used(self, sentences: Iterable[str]) -> dict[str, str]:
        """Return the symbols of sentences in their order with what each means, but for those that nobody defined."""
        parts = chain.from_iterable(map(formulas_in, sentences))
        names = (name for part in parts if isinstance(part, Formula) for name in part.symbols)
        return {name: meaning for name in names if (meaning := self.meaning(name))}

    def meaning(self, name: str) -> str:
        """Return what a symbol means, or nothing."""
        return self.meanings.get(name, SYMBOLS.get(name, ""))

    def _formula(self, formula: Formula) -> str:
        meanings = "; ".join(f"{name}: {words}" for name in formula.symbols if (words := self.meaning(name)))
        if not self.symbols or not meanings:
            return formula.mathml
        # Reached by keyboard through the list, once, and not at every formula.
        return (
            f'<a class="formula" tabindex="-1" href="#{text(self.symbols)}" title="{text(meanings)}">'
            f"{formula.mathml}</a>"
        )

    def _words(self, words: str) -> str:
        parts, end = [], 0
        for found in _LINKED.finditer(words):
            parts += [text(words[end : found.start()]), self._linked(found)]
            end = found.end()
        return "".join([*parts, text(words[end:])])

    def _linked(self, found: re.Match[str]) -> str:
        words = text(found[0])
        if found["code"]:
            return f"<code>{words}</code>"
        if found["claim"]:
            return f'<a href="#{words}">{words}</a>' if found[0] in self.claims else words
        number = found["arxiv"] or ARXIV.get((found["author"], found["year"]))
        return f'<a href="https://arxiv.org/abs/{number}">{words}</a>' if number else words


def _closing(part: str | Formula) -> str:
    """Return the signs at the beginning of words that belong to the formula before: no line begins with them."""
    found = None if isinstance(part, Formula) else re.match(r"[,.;:)\]%’'!?]+", part)
    return found[0] if found else ""


def symbol(name: str) -> str:
    """Return a symbol's name as a formula, one that would be a word in a sentence (A) too."""
    (part,) = formulas_in(name)[:1]
    return part.mathml if isinstance(part, Formula) else f"<math><mi>{text(name)}</mi></math>"
