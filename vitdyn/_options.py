"""Wrong options of a command, said in one line."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr

_KINDS = (
    (r"invalid literal for int.*: '(.*)'", "must be a whole number, in digits"),
    (r"could not convert string to float: '(.*)'", "must be a number"),
)
"""Words of Python's own conversions, with the value, and what they mean."""


@contextmanager
def one_line_where_wrong(program: str, given: Sequence[str]) -> Iterator[None]:
    """Turn the box that the parser of options prints into one line: what is wrong, and where help is.

    Raises ``ValueError``, as other bad inputs do. Help that is asked for is printed, and ends the program, as ever.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            yield
    except SystemExit as end:
        if end.code in (None, 0):
            raise
        named = [name for name in given[:1] if not name.startswith("-")]
        raise ValueError(f"{_told(said.getvalue())}: see '{' '.join([program, *named, '--help'])}'") from None
    sys.stderr.write(said.getvalue())


def _told(box: str) -> str:
    """Return what a box says between its title and its next rule, on one line."""
    lines: list[str] = []
    for line in box.splitlines()[1:]:
        text = line.strip(" │|╭╮╰╯+")
        if text.strip("─━-"):
            lines.append(text)
        elif lines:  # a rule: what follows is the help of the option
            break
    told = " ".join(" ".join(lines or [box]).split())[:400].rstrip(".")
    field = re.match(r"Error parsing (?:--)?([\w-]+): ", told)
    for words, remedy in _KINDS:
        found = re.search(words, told)
        if field and found:
            return f"{field[1].replace('-', '_')} = {found[1]!r}: {remedy}"
    return told or "the options are wrong"
