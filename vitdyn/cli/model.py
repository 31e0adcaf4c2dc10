"""``--model NAME``: which model a command trains, with the fields of its class as options of the command."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable
from dataclasses import MISSING, field, fields, make_dataclass
from itertools import pairwise
from typing import Annotated, Any, get_type_hints

import tyro

from vitdyn._errors import require_choice
from vitdyn.cli.catalogue import models, objectives

OPTION = "--model"
LAYER = "one-layer"


def named_model(given: list[str]) -> str:
    """Return the model that a command line names; the theory's layer where it names none."""
    found = LAYER
    for word, after in pairwise([*given, ""]):
        option, equals, value = word.partition("=")
        if option == OPTION:
            found = value if equals else after
    return found


def with_model(command: type, name: str, others: Iterable[type] = ()) -> type:
    """Return a command with the fields of a model as its options, which ``model_of`` reads.

    A field goes by its own name, and by "model_" and its name where the command, one of ``others`` or any objective has
    an option of that name: so that one option is one thing, whatever is trained.
    """
    require_choice("model", name, [each.name for each in models()])
    if name == LAYER:
        return command
    from vitdyn.models import MODELS

    kind = MODELS[name]
    taken = {each.name for options in (command, *others) for each in fields(options)}
    taken |= {option.name for objective in objectives() for option in objective.options}
    kinds, helps = get_type_hints(kind), _helps(kind)
    options, names = [], {}
    for each in fields(kind):
        option = f"model_{each.name}" if each.name in taken else each.name
        about = Annotated[
            kinds[each.name], tyro.conf.arg(help=helps.get(each.name, f"{each.name} of {name}"))
        ]
        factory = each.default_factory
        default = field(default=each.default) if factory is MISSING else field(default_factory=factory)
        options.append((option, about, default))
        names[option] = each.name
    made: Any = make_dataclass(
        command.__name__, options, bases=(command,), frozen=True, kw_only=True, namespace={"_names": names}
    )
    made.__doc__ = command.__doc__
    return made


def model_of(options: Any) -> Any:
    """Return the model that the options of a command describe."""
    from vitdyn.models import MODELS

    names: dict[str, str] = getattr(options, "_names", {})
    return MODELS[options.model](**{own: getattr(options, option) for option, own in names.items()})


def _helps(kind: type) -> dict[str, str]:
    """Return what stands below each field of a class and of its parents, a text by the name of the field."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__[:-1]):
        try:
            (node,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        except (OSError, TypeError, SyntaxError, ValueError):  # a class without a file has no help
            continue
        for line, below in pairwise(node.body if isinstance(node, ast.ClassDef) else ()):
            text = below.value if isinstance(below, ast.Expr) else None
            if (
                isinstance(line, ast.AnnAssign)
                and isinstance(text, ast.Constant)
                and isinstance(text.value, str)
            ):
                found[ast.unparse(line.target)] = text.value
    return found
