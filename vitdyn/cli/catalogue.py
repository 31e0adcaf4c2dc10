"""What there is to name on a command line, read off vitdyn's sources without running them.

To import objectives and claims takes torch, scipy and three seconds; a list of names and a page of help need only what
stands in the text: tables of names, first lines of docstrings, fields with their defaults and their help.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from vitdyn._registry import added

_PACKAGE = Path(__file__).parents[1]


class Option(NamedTuple):
    """A field of an objective, as the command line offers it."""

    name: str
    default: Any
    help: str


class Entry(NamedTuple):
    """Something that is listed: its name, what it is in one line; of an objective where it is found, and its fields."""

    name: str
    text: str
    module: str = ""
    kind: str = ""
    family: str = ""
    options: tuple[Option, ...] = ()

    @classmethod
    def of(cls, kind: Any, name: str) -> Entry:
        """Describe an objective's class that is loaded anyway, by the name that it is listed under."""
        options = (
            Option(each.name, each.default, each.metadata.get("help", ""))
            for each in fields(kind)
            if each.default is not MISSING
        )
        text = first_line(kind.__doc__)
        return cls(name, text, kind.__module__, kind.__name__, kind.family, tuple(options))

    def load(self) -> Any:
        """Import what is described."""
        return getattr(import_module(self.module), self.kind)


def first_line(text: str | None) -> str:
    """Return what a docstring says in one line."""
    return (text or "").strip().partition("\n")[0]


def objectives() -> tuple[Entry, ...]:
    """Describe the objectives, in their order."""
    found = _Sources("objectives")
    own = tuple(found.objective(part) for _, part in found.table("OBJECTIVES"))
    return own + tuple(Entry.of(kind, name) for name, kind in added("objective").items())


def distributions() -> tuple[Entry, ...]:
    """Describe the distributions of the latents."""
    return _by_name(_Sources("data", "latents.py"), "DISTRIBUTIONS", added("distribution"))


def optimizers() -> tuple[Entry, ...]:
    """Describe the optimizers."""
    return _by_name(_Sources("dynamics", "optimizers.py"), "OPTIMIZERS", added("optimizer"))


def models() -> tuple[Entry, ...]:
    """Describe the models."""
    return _by_name(_Sources("models"), "MODELS", added("model"))


def metrics() -> tuple[Entry, ...]:
    """Describe what ``--metrics`` takes: the metrics of the field, of the landscape, and the user's own observables."""
    # dicts of name: (symbol, meaning, ...)
    tables: Any = (
        _Sources("observables", "metrics.py").assigned["_METRICS"],
        _Sources("observables", "by_head.py").assigned["_BY_HEAD"],
        _Sources("observables", "by_depth.py").assigned["_BY_DEPTH"],
        _Sources("observables", "layer_roles.py").assigned["_ROLES"],
        _Sources("observables", "curvature.py").assigned["_CURVATURE"],
        _Sources("landscape", "neighbourhood.py").assigned["NUMBERS"],
    )
    own = (
        (key.value, ast.literal_eval(value.elts[1]))
        for found in tables
        for key, value in zip(found.keys, found.values, strict=True)
    )
    others = ((name, each.meaning) for name, each in added("observable").items())
    return tuple(Entry(*each) for each in (*own, *others))


def claims() -> tuple[Entry, ...]:
    """Describe the claims by id and statement, in the order in which they are reported."""
    found = _Sources("claims")
    entries = []
    for _, part in found.table("CLAIMS"):
        call: Any = found.assigned[part]  # Claim(id="...", statement="...", ...)
        given = {each.arg: each.value for each in call.keywords}
        entries.append(Entry(*(ast.literal_eval(given[field]) for field in ("id", "statement"))))
    return (*entries, *(Entry(name, each.statement) for name, each in added("claim").items()))


def _by_name(found: _Sources, table: str, others: dict[str, type]) -> tuple[Entry, ...]:
    own = {name: ast.get_docstring(found.classes[part][1]) for name, part in found.table(table)}
    own |= {name: kind.__doc__ for name, kind in others.items()}
    return tuple(Entry(name, first_line(text)) for name, text in own.items())


class _Sources:
    """The classes and the assignments at the top of the files of one package and those in it."""

    def __init__(self, package: str, pattern: str = "**/*.py") -> None:
        self.classes: dict[str, tuple[str, ast.ClassDef]] = {}
        self.assigned: dict[str, ast.expr] = {}
        for path in sorted((_PACKAGE / package).glob(pattern)):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    parts = path.relative_to(_PACKAGE.parent).with_suffix("").parts
                    self.classes[node.name] = ".".join(parts), node
                self.assigned |= dict(_assignments([node]))

    def table(self, name: str) -> list[tuple[str, str]]:
        """Return the entries of a table, a dict of classes by name or a tuple: each name and its variable."""
        table: Any = self.assigned[name]
        if isinstance(table, ast.Call):  # a Registry, whose last argument is the dict
            table = table.args[-1]
        if isinstance(table, ast.Dict):
            keys: Any = table.keys
            return [(key.value, value.id) for key, value in zip(keys, table.values, strict=True)]  # type: ignore[attr-defined]
        return [(each.id, each.id) for each in table.elts]

    def objective(self, kind: str) -> Entry:
        """Describe an objective by its class: what it is called, its family, and the fields that have a default."""
        module, node = self.classes[kind]
        own = self._fields(node)
        options = []
        for name, value in own.items():
            if isinstance(value, ast.Call):  # name: kind = field(default=..., metadata={"help": ...})
                given = {each.arg: ast.literal_eval(each.value) for each in value.keywords}
                options.append(Option(name, given["default"], given.get("metadata", {}).get("help", "")))
        name, family = (ast.literal_eval(own[word]) for word in ("name", "family"))
        return Entry(name, first_line(ast.get_docstring(node)), module, kind, family, tuple(options))

    def _fields(self, node: ast.ClassDef) -> dict[str, ast.expr]:
        """Return the assignments of a class, behind those that it inherits from classes that are found here."""
        bases = [base.id for base in node.bases if isinstance(base, ast.Name) and base.id in self.classes]
        # dataclasses take the fields of the last base first
        inherited = (each for base in reversed(bases) for each in self._fields(self.classes[base][1]).items())
        return {name: value for name, value in inherited if isinstance(value, ast.Call)} | dict(
            _assignments(node.body)
        )


def _assignments(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    for node in body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(target, ast.Name) and node.value:
            yield target.id, node.value
