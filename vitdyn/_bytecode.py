"""What compiled code speaks of: the globals, attributes and modules that it may take when it runs."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from itertools import pairwise
from types import CodeType, ModuleType

_TORCH_DRAWS = {"normal", "bernoulli", "multinomial"}


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def operands(code: CodeType, *operations: str) -> set[str]:
    """Return the names that operations of code take, inner functions included: "LOAD_GLOBAL", "IMPORT_NAME"."""
    steps = (step for one in _codes(code) for step in dis.get_instructions(one))
    return {str(step.argval) for step in steps if step.opname in operations}


def spoken_names(code: CodeType) -> set[str]:
    """Return all names by which code may take something of a module: as attributes, or as texts for ``getattr``."""
    codes = list(_codes(code))
    texts = (text for one in codes for text in one.co_consts if isinstance(text, str))
    return {name for one in codes for name in one.co_names} | {text for text in texts if text.isidentifier()}


def draws_globally(code: CodeType, name: str, module: ModuleType) -> bool:
    """Return whether code takes of a module, by its name, what draws from that library's one generator."""
    steps = [step for one in _codes(code) for step in dis.get_instructions(one)]
    taken = {
        str(after.argval)
        for step, after in pairwise(steps)
        if (step.opname, step.argval) == ("LOAD_GLOBAL", name)
        and after.opname in ("LOAD_ATTR", "LOAD_METHOD")
    }
    if module.__name__ == "torch":
        return not taken.isdisjoint(_TORCH_DRAWS) or any(part.startswith("rand") for part in taken)
    return module.__name__ == "numpy" and "random" in taken
