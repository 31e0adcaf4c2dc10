"""What compiled code speaks of: the globals, attributes and modules that it may take when it runs."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from itertools import pairwise
from types import CodeType, ModuleType


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def global_names(code: CodeType) -> set[str]:
    """Return the global names that code, or a function inside it, loads."""
    return _operands(code, "LOAD_GLOBAL", "LOAD_NAME")


def imported_names(code: CodeType) -> set[str]:
    """Return the modules that code imports when it runs."""
    return _operands(code, "IMPORT_NAME")


def _operands(code: CodeType, *operations: str) -> set[str]:
    steps = (step for one in _codes(code) for step in dis.get_instructions(one))
    return {str(step.argval) for step in steps if step.opname in operations}


def spoken_names(code: CodeType) -> set[str]:
    """Return all names by which code may take something of a module: as attributes, or as texts for ``getattr``."""
    attributes = {name for one in _codes(code) for name in one.co_names}
    return attributes | {
        text
        for one in _codes(code)
        for text in one.co_consts
        if isinstance(text, str) and text.isidentifier()
    }


def draws_globally(code: CodeType, name: str, module: ModuleType) -> bool:
    """Return whether code takes of a module, by its name, what draws from that library's one generator."""
    steps = [step for one in _codes(code) for step in dis.get_instructions(one)]
    taken = {
        str(after.argval)
        for step, after in pairwise(steps)
        if step.opname == "LOAD_GLOBAL"
        and step.argval == name
        and after.opname in ("LOAD_ATTR", "LOAD_METHOD")
    }
    if module.__name__ == "torch":
        return any(
            part.startswith("rand") or part in ("normal", "bernoulli", "multinomial") for part in taken
        )
    return module.__name__ == "numpy" and "random" in taken
