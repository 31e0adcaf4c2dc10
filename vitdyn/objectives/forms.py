"""Which closed forms of a loss still speak of it: a form falls with whatever it was written with.

A subclass that overrides a loss, and with it nothing else, must not train on its parent's gradient. No form has to
guard itself: when a class is made, what its methods do is written down, and a form counts only for objects that still
do all of that.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import FunctionType
from typing import Any

from vitdyn._errors import invalid_value

FORMS: dict[str, tuple[str, ...]] = {
    "closed_form": (),
    "lower_bound": (),
    "reduction": ("masking", "draw_views", "loss_queries", "decay"),
}
"""What may be known of a loss, each with the methods that it speaks of besides the loss and what serves this."""

Pieces = dict[str, Any]
"""Methods, properties and constants by name."""


@dataclass(frozen=True)
class _Plain:
    """A class that has nothing but what every dataclass has."""

    __slots__ = ()

    def __post_init__(self) -> None: ...


_COMMON = {"name", "family", "__orig_bases__", "__parameters__"} | vars(_Plain).keys()


def pieces_of_forms(kind: type, root: type) -> dict[str, Pieces]:
    """Return for each form what it is written with in ``kind``, a subclass of ``root``: whatever may serve the loss."""
    own = {name for each in kind.__mro__ if each not in root.__mro__ for name in vars(each)}
    # What any objective has says nothing of the loss, unless the loss, or what serves it, speaks of it by name.
    common = _COMMON | vars(root).keys()
    names = (own - common) | {"loss"}
    spoken = {name for each in names | FORMS.keys() for name in _spoken_by(getattr(kind, each))}
    names |= {name for name in spoken & common & set(dir(kind)) - FORMS.keys() if not name.startswith("__")}
    names |= {"__getattribute__", "__getattr__"}
    return {
        form: {name: getattr(kind, name, None) for name in sorted(names | {form, *besides})}
        for form, besides in FORMS.items()
    }


def holds(spec: Any, form: str, root: type) -> bool:
    """Return whether ``spec`` has a ``form``, other than ``root``'s, that was written for the loss that it has.

    Written for it is a form whose class had the same methods, properties and constants when it was made. Fields are
    no part of that: loss and form read them off the same object.
    """
    kind: Any = type(spec)
    pieces = _written_with(kind, form, root)
    return pieces is not None and _has(spec, pieces)


@cache
def _written_with(kind: Any, form: str, root: type) -> Pieces | None:
    """Return what a class's form was written with, itself among it; None where it has none of its own."""
    function = kind.written_with[form][form]
    if function is getattr(root, form):
        return None
    # the class highest up that has this very function: what it was written with there is what it speaks of
    of_each = (
        vars(each)["written_with"][form]
        for each in reversed(kind.__mro__)
        if issubclass(each, root) and each is not root
    )
    return next(pieces for pieces in of_each if pieces[form] is function)


def _has(spec: Any, pieces: Pieces) -> bool:
    """Return whether all pieces are what the object's class has under their names, and none is overridden in it."""
    kind, state = type(spec), vars(spec)
    fields = getattr(kind, "__dataclass_fields__", {})
    for name, piece in pieces.items():
        # a field is read off the object by loss and form alike: another default is no other loss
        is_value = name in fields and not callable(piece) and not hasattr(type(piece), "__get__")
        if getattr(kind, name, None) is not piece and not is_value:
            return False
        if name in state and isinstance(piece, FunctionType):  # a method that was put into this object
            return False
    return True


def require_effective_fields(kind: type) -> None:
    """Raise ``ValueError`` where a class gives an inherited field another value without an annotation.

    ``dataclass`` passes it over: objects would have the parent's value.
    """
    inherited = fields(kind) if is_dataclass(kind) else ()
    names = {field.name for field in inherited}
    annotated = vars(kind).get("__annotations__", {})
    for name, value in vars(kind).items():
        given = name in names and name not in annotated
        if given and not callable(value) and not hasattr(type(value), "__get__"):
            remedy = f"is a field: annotate it ({name}: {type(value).__name__} = ...) and make the class a dataclass"
            raise invalid_value(f"{kind.__name__}.{name}", value, remedy)


def _spoken_by(part: Any) -> tuple[str, ...]:
    """Return the names that a method or property speaks of."""
    function = getattr(part, "fget", getattr(part, "func", part))
    return function.__code__.co_names if isinstance(function, FunctionType) else ()
