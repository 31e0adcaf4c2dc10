"""Versions of vitdyn and of what it stands on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def version_of(package: str) -> str:
    """Return the version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:  # a source tree that was never installed
        return "0+unknown"


__version__ = version_of("vitdyn")
