"""Names that a package offers and loads when they are first asked for (PEP 562)."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazily(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package, which says in ``if TYPE_CHECKING:`` where its names are.

    Type checkers and editors read that block as imports; here the same block is the table of names, so that there is
    only one.
    """
    module, homes = sys.modules[package], _imports_for_types(package)

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home, there = homes[name]
        whole = home == package  # ``from vitdyn import metrics``: a module, not what one holds
        found = import_module(f"{home}.{there}") if whole else getattr(import_module(home), there)
        setattr(module, name, found)  # asked for once
        return found

    return load, lambda: sorted(vars(module).keys() | homes.keys())


def _imports_for_types(package: str) -> dict[str, tuple[str, str]]:
    """Return each name that a package imports for type checkers alone, with its module and its name there."""
    # the source, not the module: at run time the block has not been executed
    spec = sys.modules[package].__spec__
    source = spec.loader.get_source(package)  # type: ignore[union-attr]
    return {
        alias.asname or alias.name: (imported.module or "", alias.name)
        for block in ast.parse(source).body
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for imported in block.body
        if isinstance(imported, ast.ImportFrom)
        for alias in imported.names
    }
