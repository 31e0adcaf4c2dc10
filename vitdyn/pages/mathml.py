"""A formula as it is written, ``P^{1 − κ_s}`` or ``min_p A_own``, read and set as MathML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

from vitdyn.pages.tokens import BAR, INDICES, POWERS, Token

STARTS = frozenset({"number", "function", "differential", "letter", "prefix", "root", "bar", "open"})
"""What a formula may begin with."""

_ARTICLES = ("a", "A", "I")
_SIGNS = frozenset({"operator", "prefix"})
_JOINS = _SIGNS | {"script", "power", "index", "bar", "number"}
_CLOSE_UP = 'lspace="0" rspace="0"'
_IN_WORDS = "+−·/,"
"""Signs that prose has too: a formula holds something else besides."""


@dataclass
class Reader:
    """Reads the longest formula that begins at a token: ``read()`` returns its MathML, ``index`` is behind it.

    ``symbols`` are the names that it holds, with their indices and stars, and where each stands first. ``is_strong``
    says whether anything in it is no word and no number, without which it is none.
    """

    tokens: Sequence[Token]
    index: int
    symbols: dict[str, int] = field(default_factory=dict)
    is_strong: bool = False

    def read(self) -> str:
        """Return the formula as the content of an element ``math``; empty where there is none."""
        row = self._row(inside=False)
        return row if self.is_strong else ""

    def _kind(self, ahead: int = 0) -> str:
        place = self.index + ahead
        return self.tokens[place].kind if 0 <= place < len(self.tokens) else ""

    def _take(self) -> str:
        self.index += 1
        return self.tokens[self.index - 1].text

    def _attempt(self, reading: Callable[..., str], *given: str | bool) -> str:
        """Read something; where there is no such thing, be where and as we were before."""
        held = self.index, dict(self.symbols), self.is_strong
        found = reading(*given)
        if not found:
            self.index, self.symbols, self.is_strong = held
        return found

    def _row(self, *, inside: bool) -> str:
        """Read operands and signs as far as they go; signs behind the last operand are no part of it."""
        parts: list[str] = []
        kept, end, is_strong, before = 0, self.index, self.is_strong, "sign"
        while True:
            is_apart = self._kind() == "space"
            if is_apart:
                if not self._goes_on(before, inside):
                    break
                self._take()
            kind = self._kind()
            if kind == "prefix" or (parts and kind == "operator") or (parts and inside and kind == "comma"):
                parts.append(self._sign(before))
                before = "sign"
                continue
            operand = self._attempt(self._operand, before, is_apart, inside)
            if not operand:
                break
            if is_apart and (before == "function" or (kind in ("function", "open") and before == "operand")):
                parts.append('<mspace width="0.17em"/>')
            parts.append(operand)
            before = (
                "function" if kind == "function" or self.tokens[self.index - 1].text == "E" else "operand"
            )
            kept, end, is_strong = len(parts), self.index, self.is_strong
        self.index, self.is_strong = end, is_strong
        return "".join(parts[:kept])

    def _goes_on(self, before: str, inside: bool) -> bool:
        """Return whether the row goes on after a space."""
        after = self._kind(1)
        if after == "number":
            return before != "operand"  # "P 256" is no product
        return after in STARTS | {"operator"} or (inside and after == "word" and before == "sign")

    def _sign(self, before: str) -> str:
        kind, sign = self._kind(), self._take()
        self.is_strong |= sign not in _IN_WORDS
        if sign == "Σ":
            return self._with_scripts("<mo>∑</mo>")
        if sign in "∂∇":
            return self._with_scripts(f"<mo {_CLOSE_UP}>{sign}</mo>")
        if sign in "/·":
            return f"<mo {_CLOSE_UP}>{sign}</mo>"
        form = ' form="prefix"' if kind == "prefix" and before == "sign" else ""
        return f"<mo{form}>{escape(sign)}</mo>"

    def _operand(self, before: str, is_apart: bool, inside: bool) -> str:
        kind = self._kind()
        if kind == "number":
            return self._with_scripts(self._number())
        if kind == "letter":
            return "" if self._is_article() else self._letter()
        if kind == "open":
            group = self._group("<mrow>{}{}{}</mrow>")
            return self._with_scripts(group) if group else ""
        if kind == "bar":
            return self._with_scripts(f'<mo stretchy="false" {_CLOSE_UP}>{self._take()}</mo>')
        if kind == "function":
            name = f"<mi>{self._take()}</mi>"
            self.is_strong |= self._kind() in ("script", "index", "open")
            return self._with_scripts(name)
        if kind == "differential":
            self.symbols.pop("d", None)  # of d(1/λ)/dt
            return "".join(f"<mi>{letter}</mi>" for letter in self._take())
        if kind == "root":
            self._take()
            argument = self._argument()
            self.is_strong |= bool(argument)
            return argument and f"<msqrt>{argument}</msqrt>"
        # What a function is of, and what a sign joins without a space, may have a name: ρ(RankMe), λ·CL.
        if kind == "word" and before == "sign" and not is_apart and (inside or self._kind(-1) == "operator"):
            return f"<mtext>{escape(self._take())}</mtext>"
        return ""

    def _is_article(self) -> bool:
        """Return whether a letter is a word here: "a level", against "−A(1 − A)"."""
        if self.tokens[self.index].text not in _ARTICLES:
            return False
        beside = self._kind(1) in _JOINS | {"open"} or self._kind(-1) in _JOINS
        signs = [side for side in (-1, 1) if self._kind(side) == "space" and self._kind(2 * side) in _SIGNS]
        return not beside and not signs

    def _number(self) -> str:
        whole, _, exponent = self._take().partition("e")
        if not exponent:
            return f"<mn>{whole}</mn>"
        self.is_strong = True
        sign = '<mo form="prefix">−</mo>' if exponent.startswith("-") else ""
        power = f"<msup><mn>10</mn><mrow>{sign}<mn>{exponent.lstrip('+-0') or '0'}</mn></mrow></msup>"
        return power if whole == "1" else f"<mrow><mn>{whole}</mn><mo>·</mo>{power}</mrow>"

    def _letter(self) -> str:
        name = self._take()
        self.is_strong = True
        is_differential = name == "d" and self._kind() == "space" and self._kind(1) == "function"
        return self._with_scripts(_letter(name), "" if is_differential else name)

    def _with_scripts(self, base: str, name: str = "") -> str:
        """Return what was read with the scripts behind it; where it has a name, note the symbol."""
        below, above, place = "", "", self.index
        while (kind := self._kind()) in ("script", "power", "index"):
            start = self.index
            if kind == "index":
                below += f"<mn>{''.join(INDICES[digit] for digit in self._take())}</mn>"
            elif kind == "power":
                powers = self._take()
                above += "".join(_power(sign) for sign in powers)
                name += powers if name and powers in "*⁰" else ""
            elif not (inner := self._attempt(self._script)):
                break
            elif self.tokens[start].text == "^":
                above += inner
            else:
                below += inner
                name += "".join(token.text for token in self.tokens[start : self.index]) if name else ""
        if name:
            self.symbols.setdefault(name, place)
        if below and above:
            return f"<msubsup>{base}<mrow>{below}</mrow><mrow>{above}</mrow></msubsup>"
        tag = "msub" if below else "msup"
        return f"<{tag}>{base}<mrow>{below or above}</mrow></{tag}>" if below or above else base

    def _script(self) -> str:
        is_index, symbols = self._take() == "_", dict(self.symbols)
        inner = self._argument()
        self.is_strong |= bool(inner)
        if is_index:  # part of a name: what stands in it is no symbol of the formula
            self.symbols = symbols
        return inner

    def _argument(self) -> str:
        """Read what a script or a root is of: one thing, or a group, whose brackets the layout makes needless."""
        kind = self._kind()
        if kind == "open":
            return self._group("{1}")
        if kind == "letter":
            self.symbols.setdefault(self.tokens[self.index].text, self.index)
            return _letter(self._take())
        if kind in ("prefix", "power") and self.tokens[self.index].text in "+*":  # π_+, t_*
            return f"<mo>{self._take()}</mo>"
        if kind in ("word", "function"):
            return f"<mtext>{escape(self._take())}</mtext>"
        return self._number() if kind == "number" else ""

    def _group(self, layout: str) -> str:
        """Read what stands in brackets, with them; empty where they hold more than a formula."""
        opening, inner = self._take(), self._row(inside=True)
        if not inner or self._kind() != "close":
            return ""
        fence = '<mo stretchy="false">{}</mo>'
        return layout.format(fence.format(opening), inner, fence.format(self._take()))


def _power(sign: str) -> str:
    tag = "mo" if sign == "*" else "mn"
    return f"<{tag}>{POWERS[sign]}</{tag}>"


def _letter(name: str) -> str:
    letter = f"<mi>{name[0]}</mi>"
    return (
        f'<mover accent="true">{letter}<mo stretchy="false">¯</mo></mover>' if name.endswith(BAR) else letter
    )
