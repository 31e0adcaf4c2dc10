"""``vitdyn --module my_paper.py ...``: a file of the user's is imported first, and registers what it has."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from vitdyn._errors import invalid_value

OPTION = "--module"


def split_modules(given: list[str]) -> tuple[list[str], list[str]]:
    """Return the modules that a command line names, wherever it does, and the rest of it."""
    modules: list[str] = []
    rest: list[str] = []
    words = iter(given)
    for word in words:
        option, _, value = word.partition("=")
        if option == OPTION:
            modules.append(value or next(words, ""))
        else:
            rest.append(word)
    return modules, rest


def import_modules(names: list[str]) -> None:
    """Import modules by file or dotted name. Raises ``ValueError`` of one line, whatever they raise.

    The folder of a file, or else the working folder, becomes the first to import from: here, and so in processes that
    are started from here.
    """
    for name in names:
        file = Path(name)
        is_file = file.suffix == ".py"
        if not name or (is_file and not file.is_file()):
            raise invalid_value("module", name, "no such file")
        folder, module = (file.resolve().parent, file.stem) if is_file else (Path.cwd(), name)
        if is_file:
            _require_free(name, module, folder / file.name)
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        try:
            import_module(module)
        except (Exception, SystemExit) as error:
            reason = " ".join(str(error).split()) or "no reason given"
            raise invalid_value(
                "module", name, f"cannot be imported ({type(error).__name__}: {reason})"
            ) from error


def _require_free(name: str, module: str, file: Path) -> None:
    """Raise ``ValueError`` where a file's name is no module's, or another module's."""
    if not module.isidentifier():
        raise invalid_value(
            "module", name, "must have the name of a module: letters, digits and _ before .py"
        )
    # Of a name that is taken the import would return the other module, without a look at the file.
    known = sys.modules.get(module)
    spec = known.__spec__ if known else find_spec(module)
    if spec is not None and (spec.origin is None or Path(spec.origin).resolve() != file):
        raise invalid_value("module", name, f"{module} is the name of another module: rename the file")
