"""The reference: a page for each room of the package, made of its docstrings.

``.. room:: vitdyn.theory`` documents what a room offers, file by file; ``.. names:: vitdyn`` lists what a package
offers, each name with its first sentence. Docstrings are plain text: an indented paragraph is an equation, and drawn
as one, unless it is code. A name in double backticks leads to its description, in docstrings and in notes.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from docutils import nodes
from formulas import latex_of
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

import vitdyn

NOTES = {path.stem for path in Path(__file__).parents[1].glob("*.md")}
_NOTE = re.compile(r"\b(\w[\w-]*)\.md(?:#[\w-]+)?")
ROOMS = (
    "theory", "claims", "metrics", "losses", "landscape", "data", "models", "objectives", "observables", "dynamics",
    "reduced", "experiments", "vits", "plotting", "pages", "trajectory", "seeds",
)  # fmt: skip


def offered(package: ModuleType) -> dict[str, str]:
    """Return each name that a package offers, with the module that its source imports it from.

    What ``vd`` alone offers (``vd.simulate``) belongs to the room that it is defined in; what a room passes on from
    another is described there.
    """
    path = package.__name__
    if not hasattr(package, "__all__"):
        own = (name for name, value in vars(package).items() if getattr(value, "__module__", "") == path)
        return {name: path for name in own if not name.startswith("_")}
    found = dict(_imports(package))
    names = {name: found.get(name, path) for name in package.__all__}  # what it does not import it defines
    if package is vitdyn:
        return names
    names |= {
        name: home for name, home in _imports(vitdyn) if home.startswith(f"{path}.") and name not in names
    }
    return {
        name: home
        for name, home in names.items()
        if home.split(".")[1] not in {*ROOMS} - {path.split(".")[1]}
    }


def _imports(package: ModuleType) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(inspect.getsource(package))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = node.module == "vitdyn"  # from vitdyn import theory: a room
                yield alias.asname or alias.name, f"vitdyn.{alias.name}" if whole else node.module


def address(name: str, home: str, package: ModuleType = vitdyn) -> str:
    """Return the path by which a name is described: by way of its room where the room offers it."""
    room = import_module(".".join(home.split(".")[:2])) if package is vitdyn else package
    return f"{room.__name__ if name in getattr(room, '__all__', ()) else home}.{name}"


def _linked(found: re.Match[str]) -> str:
    return f":doc:`{found[0]} </{found[1]}>`" if found[1] in NOTES else found[0]


def escaped(plain: str) -> str:
    """Return text in which double backticks and emphasis alone mean something to reStructuredText."""
    parts = re.split(r"(``.+?``|(?<![\w*])\*[a-z][a-z ]*[a-z]\*(?![\w*]))", plain, flags=re.DOTALL)
    parts[::2] = [re.sub(r"([*|`]|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
    parts[::2] = [_NOTE.sub(_linked, part) for part in parts[::2]]
    parts[2::2] = [rf"\ {part}" if part[:1].isalnum() else part for part in parts[2::2]]
    return "".join(parts)


def first_sentence(docstring: str | None) -> str:
    """Return the first paragraph of a docstring as one line of reStructuredText."""
    return " ".join(escaped((docstring or "").strip().split("\n\n")[0]).split())


def _words_about(name: str, home: str) -> str:
    """Return the docstring of a function, class or room, or the string below a value's definition."""
    value = getattr(import_module(home), name, None)
    if inspect.ismodule(value) or inspect.isroutine(value) or inspect.isclass(value):
        return inspect.getdoc(value) or ""
    return "\n".join(ModuleAnalyzer.for_module(home).find_attr_docs().get(("", name), []))


class Names(SphinxDirective):
    """List every name of a package, with a link to its description and its first sentence."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the parsed table."""
        return self.parse_text_to_nodes("\n".join(listed(import_module(self.arguments[0]))))


def listed(package: ModuleType) -> list[str]:
    """Return a table of the names of a package and their first sentences."""
    lines = [".. list-table::", "   :widths: 32 68", "   :class: names", ""]
    for name, home in sorted(offered(package).items(), key=lambda each: each[0].lower()):
        room = home.removeprefix("vitdyn.")
        is_room = room in ROOMS and not hasattr(import_module(home), name)
        link = f":doc:`{name} <{room}>`" if is_room else f":py:obj:`{name} <{address(name, home, package)}>`"
        words = import_module(home).__doc__ if is_room else _words_about(name, home)
        lines += [f"   * - {link}", f"     - {first_sentence(words)}"]
    return [*lines, ""]


class Room(SphinxDirective):
    """Document a room: what it is, a table of its names, then each under a heading for its file."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the parsed headings and descriptions."""
        package = import_module(self.arguments[0])
        names = offered(package)
        lines = [
            f".. currentmodule:: {package.__name__}",
            "",
            *prepared(package.__doc__ or ""),
            "",
            *listed(package),
        ]
        for home in sorted({*names.values()}):
            words = "Of the room itself" if home == package.__name__ else import_module(home).__doc__
            title = first_sentence(words).rstrip(".")
            if len({*names.values()}) > 1:
                lines += [title, "-" * len(title), "", f"``{home.replace('.', '/')}``", ""]
            for name in sorted((each for each in names if names[each] == home), key=str.lower):
                lines += [*described(name, home, package), ""]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def described(name: str, home: str, package: ModuleType) -> list[str]:
    """Return the directive that documents a name."""
    value, path = getattr(import_module(home), name), address(name, home, package)
    if inspect.isclass(value):
        bases = ["   :show-inheritance:"] * (value.__bases__ != (object,))
        return [f".. autoclass:: {path}", "   :members:", *bases]
    if inspect.isroutine(value):
        return [f".. autofunction:: {path}"]
    return [f".. py:data:: {name}", "", *(f"   {line}" for line in prepared(_words_about(name, home)))]


def prepared(docstring: str) -> list[str]:
    """Return the reStructuredText of a docstring."""
    return "\n\n".join(map(_prepared, re.split(r"\n{2,}", docstring.strip("\n")))).splitlines()


def _prepared(paragraph: str) -> str:
    if paragraph.lstrip().startswith(">>>"):
        return paragraph
    if not paragraph.startswith("    "):
        return escaped(paragraph)
    plain = inspect.cleandoc(paragraph)
    if '"' in plain or ">>>" in plain:  # names of options and their shapes
        return f"::\n\n{paragraph}"
    return f".. math::\n\n    {latex_of(plain)}"


def _docstring(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [*prepared("\n".join(lines)), ""]


def _link_names(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Let a documented name in double backticks lead to its description, and a note's name to the note."""
    objects = app.env.domains.python_domain.objects
    paths = {path.removeprefix("vitdyn."): path for path in objects} | {path: path for path in objects}
    front = {name: address(name, home) for name, home in offered(vitdyn).items()}
    for path in objects:
        *_, name = path.split(".")
        if re.search("[A-Z_]", name):  # not ``noise`` and other names of arguments
            front.setdefault(name, path)
    for literal in list(doctree.findall(nodes.literal)):
        name = literal.astext().removesuffix("()").removeprefix("vd.")
        path = front.get(name) or paths.get(name.replace("plot.", "plotting."))
        note = name.removeprefix("theory_notes/").removesuffix(".md")
        if isinstance(literal.parent, nodes.reference | nodes.title):
            continue
        if path in objects:
            target = objects[path].docname, objects[path].node_id
        elif name.endswith(".md") and note in NOTES:
            target = note, ""
        else:
            continue
        literal.replace_self(make_refnode(app.builder, docname, *target, literal.deepcopy()))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives, and what reads docstrings and links names."""
    app.setup_extension("sphinx.ext.autodoc")
    app.add_directive("room", Room)
    app.add_directive("names", Names)
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("doctree-resolved", _link_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
