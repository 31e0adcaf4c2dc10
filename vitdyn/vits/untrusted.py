"""Names and descriptions that come with a file from elsewhere: shown escaped, read with bounds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vitdyn._errors import invalid_value

_LARGEST_JSON = 2**24


def refused(path: Path, reason: str) -> ValueError:
    """Build the error for a checkpoint that is not read."""
    return invalid_value("checkpoint", str(path), reason)


def printable(name: object) -> str:
    """Return a name as it can stand in any output: what is no printable character is escaped, line ends too."""
    # terminals act on escape codes, and a line end would forge a line of our report
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in str(name)
    )


def listed(names: Sequence[object], most: int = 6) -> str:
    """Return names out of a file, on one line whatever they hold, and how many more there are."""
    shown = ", ".join(printable(str(name)[:80]) for name in names[:most]) or "nothing"
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def as_path(field: str, value: object) -> Path:
    """Return a path. Raises ``ValueError`` for what is no path, or one that the system does not take."""
    if not isinstance(value, (str, os.PathLike)) or "\0" in str(value):
        raise invalid_value(field, value, "must be the path of a file or folder")
    try:
        Path(value).stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # whoever asks says what should be there
    except OSError as error:
        raise invalid_value(field, str(value), f"cannot be opened: {error.strerror}") from error
    return Path(value)


def read_json(path: Path) -> Mapping[str, Any]:
    """Return the object of a JSON file, empty where there is no such file.

    Raises ``ValueError`` for what is no JSON object, for one of more than 16 MiB, and for a name given twice, of
    which readers take one or the other.
    """
    if not path.is_file():
        return {}
    # asked before it is read: a parser takes many times the size of its text
    if path.stat().st_size > _LARGEST_JSON:
        raise invalid_value(path.name, str(path), "has more than 16 MiB: no description of a model has")
    try:
        found = parsed(path.read_text(encoding="utf-8-sig"))
    except TwiceError as error:
        raise invalid_value(path.name, str(path), f"says {listed([error])} twice: put it right") from error
    except (OSError, ValueError, RecursionError) as error:
        raise invalid_value(path.name, str(path), "is no JSON: put it right, or take it away") from error
    if not isinstance(found, Mapping):
        raise invalid_value(path.name, str(path), "is no JSON object: put it right, or take it away")
    return found


class TwiceError(Exception):
    """A name that an object of JSON gives twice."""


def parsed(text: str | bytes) -> Any:
    """Return what JSON says; an object that gives a name twice is a ``TwiceError``."""
    return json.loads(text, object_pairs_hook=_once, parse_int=_number)


def _number(text: str) -> int | float:
    return int(text) if len(text) < 20 else float(text)  # no count is so long, and int takes any length


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise TwiceError(next(name for name in names if names.count(name) > 1))
    return found


@contextmanager
def naming(place: str) -> Iterator[None]:
    """Add to a complaint about a value where the value stands."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{error} ({place})") from error
