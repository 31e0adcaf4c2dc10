"""A digest of whatever a user puts into a specification: values, functions with all that they reach, classes.

Two functions have one digest only if they compute the same: by bytecode, constants, defaults, closures and the global
values, functions and classes that they name, all the way down to what libraries bring. Names of functions do not
count, nor where they stand in a file. What depends on more than that (a random generator, an open file, compiled code
without a source) has no digest, and says so.
"""

from __future__ import annotations

import builtins
import copyreg
import hashlib
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from vitdyn._bytecode import draws_globally, operands, spoken_names

_MOST_PARTS = 200_000
_GENERATED = {"__init__", "__repr__", "__eq__", "__hash__", "__setattr__", "__delattr__", "__replace__"} | {
    f"__{order}__" for order in ("lt", "le", "gt", "ge")
}
"""What ``dataclass`` may write into a class."""

_OUTSIDE = {
    "open", "input", "eval", "exec", "__import__", "environ", "getenv", "load", "loadtxt", "genfromtxt", "fromfile"
}  # fmt: skip
"""Names by which code reads more than what stands in it: files, the environment, other code."""

_OF_CHANCE_OR_TIME = {"random", "secrets", "time", "uuid"}
_STANDARD = str(Path(sysconfig.get_path("stdlib")).resolve())
_SLOT_KINDS = ("member_descriptor", "getset_descriptor")
_RANDOM = ("numpy.random.", "random.", "torch._C.Generator")
_OF_EVERY_CLASS = {
    "__abstractmethods__", "__annotations__", "__annotations_cache__", "__annotate_func__", "__dataclass_fields__",
    "__dataclass_params__", "__dict__", "__doc__", "__firstlineno__", "__match_args__", "__module__",
    "__non_callable_proto_members__", "__orig_bases__", "__parameters__", "__protocol_attrs__", "__qualname__",
    "__slotnames__", "__static_attributes__", "__weakref__", "_abc_impl", "_is_protocol", "written_with",
}  # fmt: skip
"""What says where and how a class was written, not what it computes."""


class NoDigestError(ValueError):
    """A value that nothing can stand for: what it computes depends on more than can be read off it."""


def digest(value: Any) -> str:
    """Return sixteen hexadecimal digits that stand for a value, the same in every process.

    Raises ``NoDigestError``, which names the part, where there are none.
    """
    try:
        parts = _Reader().read(value)
    except RecursionError as error:
        raise NoDigestError("it is nested too deeply") from error
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


@lru_cache(maxsize=4096)
def is_library(module: str | None) -> bool:
    """Return whether a module is vitdyn's, Python's or an installed library's: not the user's own code."""
    root = (module or "").partition(".")[0]
    if root in ("vitdyn", "__main__"):
        return root == "vitdyn"
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    if file is None:
        return root in sys.stdlib_module_names or root == "builtins"
    path = Path(file).resolve()
    return path.is_relative_to(_STANDARD) or not {"site-packages", "dist-packages"}.isdisjoint(path.parts)


def is_of_library(value: type | FunctionType) -> bool:
    """Return whether a class or function of Python is a library's.

    A class is only where its module has it by its name (``type`` and ``exec`` name others' modules); a function of
    Python calls itself a builtin only if ``exec`` made it.
    """
    if isinstance(value, FunctionType):
        return value.__module__ != "builtins" and is_library(value.__module__)
    if not is_library(value.__module__):
        return False
    found: Any = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    made_in_python = any({"__dict__", "__slots__"} & vars(each).keys() for each in value.__mro__)
    return found is value or not made_in_python


def patched(kind: type) -> dict[str, Any]:
    """Return the methods of a library's class that somebody else has put there."""
    return {
        f"{each.__qualname__}.{name}": part
        for each in kind.__mro__
        if is_of_library(each)
        for name, part in vars(each).items()
        if isinstance(part, FunctionType) and not is_of_library(part) and not _is_generated(name, part)
    }


class _Reader:
    """Turns a value into nested tuples of plain ones; a thing that contains itself is named by its depth."""

    def __init__(self) -> None:
        self._under_way: list[Any] = []
        self._parts = 0

    def read(self, value: Any) -> Any:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise NoDigestError(f"it has more than {_MOST_PARTS} parts")
        if value is None or type(value) in (bool, int, str, bytes, complex):
            return type(value).__name__, value
        if type(value) is float:
            return "float", value.hex()  # all digits, and −0.0 is not 0.0
        # by identity: a cycle ends here, and equal parts that are not the same one are read like any others
        for depth, outer in enumerate(self._under_way):
            if outer is value:
                return "itself", depth
        self._under_way.append(value)
        try:
            return self._read(value)
        finally:
            self._under_way.pop()

    def _read(self, value: Any) -> Any:
        torch = sys.modules.get("torch")
        if type(value) is np.ndarray or isinstance(value, np.generic):
            return self._array(np.asarray(value))
        if torch is not None and isinstance(value, torch.Tensor):
            return "tensor", str(value.dtype), tuple(value.shape), self._array(_numbers(value))
        if is_of_library(type(value)):
            if isinstance(value, (tuple, list)):
                return type(value).__name__, tuple(map(self.read, value))
            if isinstance(value, Mapping):
                return "mapping", tuple((self.read(key), self.read(item)) for key, item in value.items())
            if isinstance(value, (set, frozenset)):
                # sorted by text: the order of a set differs from process to process
                return "set", tuple(sorted(map(repr, map(self.read, value))))
        if isinstance(value, ModuleType):
            if not is_library(value.__name__):
                raise NoDigestError(
                    f"it holds the module {value.__name__}, and what it takes of it is not seen"
                )
            return "module", value.__name__
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, CodeType):
            return self._code(value)
        return self._function(value) or self._object(value)

    def _array(self, array: np.ndarray) -> Any:
        if array.dtype.hasobject:
            return "array", array.shape, tuple(map(self.read, array.ravel().tolist()))
        content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        return "array", repr(array.dtype), array.shape, content

    def _code(self, code: CodeType) -> Any:
        counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
        names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
        table = code.co_exceptiontable if hasattr(code, "co_exceptiontable") else b""
        return "code", code.co_code, table, counts, names, tuple(map(self.read, code.co_consts))

    def _function(self, value: Any) -> Any:
        if isinstance(value, partial):
            return "partial", *map(self.read, (value.func, value.args, value.keywords))
        if isinstance(value, MethodType):
            return "method", self.read(value.__func__), self.read(value.__self__)
        if isinstance(value, (staticmethod, classmethod)):
            return type(value).__name__, self.read(value.__func__)
        if isinstance(value, (property, cached_property)):
            return "property", self.read(value.fget if isinstance(value, property) else value.func)
        if isinstance(value, BuiltinFunctionType):
            owner = None if isinstance(value.__self__, ModuleType) else self.read(value.__self__)
            return "builtin", value.__module__, value.__qualname__, owner
        inner = getattr(value, "py_func", getattr(value, "__wrapped__", None))
        if isinstance(inner, FunctionType) and _is_compiled_or_cached(value):
            return "wrapped", repr(getattr(value, "targetoptions", None)), self.read(inner)
        if not isinstance(value, FunctionType):
            return None
        # by name alone: a result tells the versions of libraries besides
        if is_of_library(value):
            return "library", value.__module__, value.__qualname__
        cells = tuple(self.read(_content(cell)) for cell in value.__closure__ or ())
        given = self.read(value.__defaults__), self.read(value.__kwdefaults__), self.read(own_state(value))
        return "function", self._code(value.__code__), given, cells, tuple(self._globals(value))

    def _globals(self, function: FunctionType) -> Iterator[Any]:
        code, space = function.__code__, function.__globals__
        spoken = spoken_names(code)
        names = operands(code, "LOAD_GLOBAL", "LOAD_NAME")
        # code that looks names up by text may take any global that one of its texts or attributes spells
        if names & {"globals", "vars", "locals"}:
            names |= spoken & space.keys()
        for name in sorted(names):
            if name not in space:
                if name in _OUTSIDE:
                    raise NoDigestError(f"it calls {name}, and what that gives is not seen")
                yield name, "builtin" if hasattr(builtins, name) else "missing"
            elif isinstance(space[name], ModuleType):
                if draws_globally(code, name, space[name]):
                    raise NoDigestError(f"it draws from the global generator of {space[name].__name__}")
                yield name, self._module(space[name], spoken)
            else:
                yield name, self.read(space[name])
        for name in sorted(operands(code, "IMPORT_NAME")):
            module = sys.modules.get(name)
            if module is None and not is_library(name):
                raise NoDigestError(f"it imports {name} when it runs, which is not loaded yet")
            yield name, "not loaded" if module is None else self._module(module, spoken)

    def _module(self, module: ModuleType, names: set[str], above: tuple[ModuleType, ...] = ()) -> Any:
        """Read what code that speaks these names can take of a module; of a library's nothing but its name."""
        if is_library(module.__name__):
            root = module.__name__.partition(".")[0]
            unseeded = root == "numpy" and not names.isdisjoint(("default_rng", "RandomState", "seed"))
            if (
                root in _OF_CHANCE_OR_TIME
                or module.__name__.startswith("numpy.random")
                or unseeded
                or names & _OUTSIDE - {"eval"}
            ):
                raise NoDigestError(f"it may take of {module.__name__} what depends on more than its code")
            return "module", module.__name__
        reached = sorted(names & vars(module).keys())
        parts = []
        for name in reached:
            part = vars(module)[name]
            if not isinstance(part, ModuleType):
                parts.append((name, self.read(part)))
            elif part is not module and part not in above:
                parts.append((name, self._module(part, names, (*above, module))))
        return "module", module.__name__, tuple(parts)

    def _class(self, kind: type) -> Any:
        if is_of_library(kind):
            changed = {name: self.read(part) for name, part in sorted(patched(kind).items())}
            return "library", kind.__module__, kind.__qualname__, tuple(changed.items())
        own = {name: part for name, part in vars(kind).items() if name not in _OF_EVERY_CLASS}
        generated = "__dataclass_params__" in vars(kind)
        parts = tuple(
            (name, "slot" if type(part).__name__ in _SLOT_KINDS else self.read(part))
            for name, part in sorted(own.items())
            if not (generated and _is_generated(name, part))
        )
        return "class", tuple(map(self.read, kind.__bases__)), self.read(type(kind)), parts

    def _object(self, value: Any) -> Any:
        kind = type(value)
        named = f"{kind.__module__}.{kind.__qualname__}"
        if named.startswith(_RANDOM) or isinstance(value, Iterator):
            raise NoDigestError(f"it holds a {named}, and what that gives depends on what it gave before")
        if not is_of_library(kind) or kind.__module__.partition(".")[0] == "vitdyn":
            return "object", self.read(kind), self.read(own_state(value)), self._content(value)
        # a library's object is what pickle would rebuild it from
        reduce = copyreg.dispatch_table.get(kind)
        try:
            made = reduce(value) if reduce else value.__reduce_ex__(4)
        except Exception as error:  # each library refuses in its own way
            raise NoDigestError(f"it holds a {named}, which cannot be written down") from error
        if isinstance(made, str):
            homes = (getattr(value, "__module__", None), kind.__module__, "scipy.special")
            if not any(getattr(sys.modules.get(home or ""), made, None) is value for home in homes):
                raise NoDigestError(f"it holds a {named} that no library names {made!r}")
            return "library", made
        maker, arguments, *rest = made
        lists = [tuple(part) if isinstance(part, Iterator) else part for part in rest]
        return "made", self.read(maker), self.read(arguments), tuple(map(self.read, lists))

    def _content(self, value: Any) -> Any:
        """Read what an object of a user's class holds as the number, text, array or container that it is."""
        if isinstance(value, np.ndarray):
            return self._array(value.view(np.ndarray))
        if isinstance(value, Mapping):
            return "mapping", tuple((self.read(key), self.read(item)) for key, item in value.items())
        plain: Any
        for plain in (int, float, complex, str, bytes, tuple, list, set, frozenset):
            if isinstance(value, plain):
                return self.read(plain(value))
        return None


def _is_compiled_or_cached(value: Any) -> bool:
    """Return whether an object is a function of numba's or one behind a cache of functools, and no user's wrapper."""
    kind = type(value)
    return kind.__module__.partition(".")[0] in ("numba", "functools") and is_of_library(kind)


def _numbers(tensor: Any) -> np.ndarray:
    try:
        return tensor.detach().cpu().contiguous().view(-1).view(sys.modules["torch"].uint8).numpy()
    except (RuntimeError, NotImplementedError) as error:
        raise NoDigestError("it holds a tensor without plain values") from error


def own_state(value: Any) -> dict[str, Any]:
    """Return an object's attributes, but not what a cached property keeps, unless somebody put another thing there."""
    kind = type(value)
    state = {name: getattr(value, name) for name in _slots(kind) if hasattr(value, name)}
    for name, part in dict(getattr(value, "__dict__", {})).items():
        rule = getattr(kind, name, None)
        if not isinstance(rule, cached_property) or _is_put_there(value, rule, part):
            state[name] = part
    return state


def _is_put_there(value: Any, rule: cached_property, part: Any) -> bool:
    """Return whether a specification in a cached property's place is none that the property would make."""
    return is_dataclass(part) and digest(rule.func(value)) != digest(part)


def _slots(kind: type) -> Iterator[str]:
    for each in kind.__mro__:
        names = vars(each).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            hidden = name.startswith("__") and not name.endswith("__")
            yield f"_{each.__name__.lstrip('_')}{name}" if hidden else name


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that was not bound yet
        return "an empty cell"


def _is_generated(name: str, part: Any) -> bool:
    """Return whether ``dataclass`` wrote a method: it says no more than the fields, whose values are read."""
    return name in _GENERATED and isinstance(part, FunctionType) and part.__code__.co_filename == "<string>"
