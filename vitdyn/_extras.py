"""Packages that come with an extra of vitdyn, and what to say where one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def from_extra(extra: str) -> Iterator[None]:
    """Import packages of an extra; where one is missing, say by which command it comes.

    Raises ``ModuleNotFoundError`` with one line that names package and extra.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error.name} is not installed: pip install 'vitdyn[{extra}]'", name=error.name
        ) from error
