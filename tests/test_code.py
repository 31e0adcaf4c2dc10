"""Digests of users' code (exact): what computes alike has one digest, what can compute otherwise has another."""

import copy
import functools
import itertools
import os
import random
import subprocess
import sys
import threading
import types
from dataclasses import dataclass, field

import numba
import numpy as np
import pytest
import torch

from vitdyn._code import NoDigestError, digest
from vitdyn._specs import decode, encode, to_text, why_unnamed
from vitdyn.data import AreaSizes, Custom
from vitdyn.objectives import MaskedReconstruction, Mixture
from vitdyn.reduced import MeanField, integrate


def named(source, name="made", **globals_):
    """Make a function or class of a source text, as a notebook's cell does."""
    space = {"__name__": "__main__", "np": np, **globals_}
    exec(source, space)
    return space[name]


FUNCTION = "def made(generator, shape):\n    return {}\n"
HELPER = "def made(x):\n    return helper(x)\n"


def helper_of(body):
    return types.FunctionType(compile(f"lambda x: {body}", "cell", "eval").co_consts[0], {}, "helper")


def closure(value):
    def inner(x):
        return x * value

    return inner


def default(value):
    def inner(x, scale=value):
        return x * scale

    return inner


def with_attribute(value):
    def inner(x):
        return x * inner.scale

    inner.scale = value
    return inner


def instance(kind, **state):
    made = object.__new__(kind)
    vars(made).update(state)
    return made


class Scaled:
    def __call__(self, x):
        return self.scale * x

    def method(self, x):
        return self.scale * x


def class_of(body, **attributes):
    return named(
        f"class made(Base):\n    def loss(self, forward):\n        return {body}\n", Base=MaskedReconstruction
    )


def recursive(last):
    def again(n):
        return again(n - 1) if n else last

    return again


DIFFERENT = {
    "one constant": lambda way: named(FUNCTION.format(f"{way} * generator.random(shape)")),
    "one sign": lambda way: named(FUNCTION.format(f"{'-' * (way - 1)}generator.random(shape)")),
    "one method": lambda way: named(FUNCTION.format(f"generator.{('random', 'normal')[way - 1]}(shape)")),
    "a closure": closure,
    "a default": default,
    "a keyword's default": lambda way: named(f"def made(x, *, scale={way}):\n    return scale * x\n"),
    "a function's attribute": with_attribute,
    "a global number": lambda way: named(FUNCTION.format("SCALE * generator.random(shape)"), SCALE=way),
    "a global's entry": lambda way: named(FUNCTION.format("T['a'][0]"), T={"a": [way]}),
    "a helper's body": lambda way: named(HELPER, helper=helper_of(f"x + {way}")),
    "a helper's closure": lambda way: named(HELPER, helper=closure(way)),
    "a nested function": lambda way: named(f"def made(x):\n    return [y + {way} for y in (lambda: x)()]\n"),
    "a module of the user's": lambda way: named(
        "def made(x):\n    return mine.inner(x)\n", mine=module_with(inner=closure(way))
    ),
    "an array": lambda way: closure(np.array([1.0, way])),
    "an array's type": lambda way: closure(np.array([1.0], dtype=("f4", "f8")[way - 1])),
    "a tensor": lambda way: closure(torch.tensor([1.0, way], requires_grad=True)),
    "a set": lambda way: closure({"a", "b", f"c{way}"}),
    "a partial": lambda way: functools.partial(pow, way),
    "a bound method": lambda way: instance(Scaled, scale=way).method,
    "an object that is called": lambda way: instance(Scaled, scale=way),
    "a cached function": lambda way: functools.lru_cache(closure(way)),
    "a compiled function": lambda way: numba.njit(closure(way)),
    "a method of a class": lambda way: class_of(f"{way} * super(made, self).loss(forward)"),
    "a base's method": lambda way: type("Mine", (class_of(f"{way} * 1"),), {}),
    "a constant of a class": lambda way: type("Mine", (Scaled,), {"scale": way}),
    "a property": lambda way: type("Mine", (), {"scale": property(closure(way))}),
    "a cached property": lambda way: type("Mine", (), {"scale": functools.cached_property(closure(way))}),
    "a static method": lambda way: type("Mine", (), {"scale": staticmethod(closure(way))}),
    "a class in a closure": lambda way: closure(type("Mine", (), {"scale": way})),
    "a function that calls itself": recursive,
    "a list that holds itself": lambda way: endless(way),
    "true and one": lambda way: closure((True, 1)[way - 1]),
    "one and 1.0": lambda way: closure((1, 1.0)[way - 1]),
    "zero and -0": lambda way: closure((0.0, -0.0)[way - 1]),
    "text and bytes": lambda way: closure(("a", b"a")[way - 1]),
    "order": lambda way: closure(((1, 2), (2, 1))[way - 1]),
    "an import within": lambda way: importing(way, "import mine_within\n    return mine_within.inner(x)"),
    "a name imported within": lambda way: importing(
        way, "from mine_within import inner\n    return inner(x)"
    ),
    "a name as text": lambda way: named(
        "def made(x):\n    return getattr(mine, 'inner')(x)\n", mine=module_with(inner=closure(way))
    ),
    "a global as text": lambda way: named("def made(x):\n    return globals()['SCALE'] * x\n", SCALE=way),
    "a module of a module": lambda way: named(
        "def made(x):\n    return mine.sub.inner(x)\n", mine=module_with(sub=module_with(inner=closure(way)))
    ),
    "a wrapper of the user's": lambda way: Wrapper(closure(0), way),
    "a call of a class without a file": lambda way: named(
        f"class made:\n    def __call__(self, x):\n        return {way}\n"
    ),
    "hidden slots": lambda way: Slotted(way),
    "one slot": lambda way: OneSlot(way),
    "an array's subclass": lambda way: closure(np.array([1.0, way]).view(Marked)),
    "names of columns": lambda way: closure(np.zeros(1, dtype=[(("a", "b")[way - 1], "f4"), ("c", "f4")])),
    "a number of the user's": lambda way: closure(type("Number", (float,), {})(way)),
}


class Wrapper:
    """A decorator that says what it wraps, as functools.update_wrapper does."""

    def __init__(self, function, factor):
        functools.update_wrapper(self, function)
        self.factor = factor

    def __call__(self, x):
        return self.factor * self.__wrapped__(x)


class Slotted:
    __slots__ = ("__hidden",)

    def __init__(self, value):
        self.__hidden = value


class OneSlot:
    __slots__ = "only"

    def __init__(self, value):
        self.only = value


class Marked(np.ndarray):
    pass


def importing(way, body):
    sys.modules["mine_within"] = module_with(inner=closure(way))
    return named(f"def made(x):\n    {body}\n")


def module_with(**contents):
    made = types.ModuleType("mine")
    vars(made).update(contents)
    return made


def endless(value):
    made = [value]
    made.append(made)
    return closure(made)


@pytest.mark.parametrize("part", DIFFERENT)
def test_a_difference_anywhere_is_a_difference(part):
    first, again, second = (digest(DIFFERENT[part](way)) for way in (1, 1, 2))
    sys.modules.pop("mine_within", None)
    assert first == again
    assert first != second


def test_names_and_places_do_not_count():
    first = named("def made(x):\n    return 2 * x\n")
    second = named("\n\n\ndef other(x):\n    # said at length\n    return 2 * x\n", "other")
    assert digest(first) == digest(second)


UNNAMED = {
    "generator": lambda: np.random.default_rng(0),
    "old generator": lambda: np.random.RandomState(0),
    "torch generator": torch.Generator,
    "counter": itertools.count,
    "lock": threading.Lock,
    "file": lambda: sys.__stdout__,
    "ufunc of the user's": lambda: np.frompyfunc(closure(1), 1, 1),
    "meta tensor": lambda: torch.zeros(2, device="meta"),
    "module": lambda: module_with(inner=1),
    "opened file": lambda: named("def made(x):\n    return open('data.txt').read()\n"),
    "loaded file": lambda: named("def made(x):\n    return np.load('data.npy')\n"),
    "environment": lambda: named("def made(x):\n    return float(os.environ['SCALE'])\n", os=os),
    "global draws": lambda: named("def made(x):\n    return random.random()\n", random=random),
    "numpy's global draws": lambda: named("def made(x):\n    return np.random.random(3)\n"),
    "torch's global draws": lambda: named("def made(x):\n    return torch.rand(3)\n", torch=torch),
    "draws of no seed": lambda: named("def made(x):\n    return np.random.default_rng().random()\n"),
    "evaluated text": lambda: named("def made(x):\n    return eval('2 * x')\n"),
    "an import that was not made": lambda: named(
        "def made(x):\n    import nowhere_yet\n    return nowhere_yet.f(x)\n"
    ),
}


@pytest.mark.parametrize("part", UNNAMED)
def test_what_depends_on_more_has_no_digest(part):
    with pytest.raises(NoDigestError, match=r"\A[^\n]+\Z"):
        digest(closure(UNNAMED[part]()))


def test_a_digest_is_the_same_in_every_process():
    """Whatever the hash seed and the order of sets."""
    text = (
        "from vitdyn._code import digest\nX = {'a', 'b', 'c', 'd', 1.5}\n"
        "def f(x, y={'k': (1, 2)}):\n    return x in X or x in {'p', 'q', 'r'} or f(y)\n"
        "class C:\n    def g(self):\n        return super().g(), X\nprint(digest(f), digest(C))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", text],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1


def test_users_classes_are_written_with_module_and_code():
    kind = class_of("2 * super(made, self).loss(forward)")
    other = class_of("-super(made, self).loss(forward)")
    written = encode(kind())
    assert written["kind"] == "__main__:made" and len(written["code"]) == 16
    assert decode(written, [kind]) == kind()
    with pytest.raises(ValueError, match=r"\A__main__:made = '\w{16}': was written with other code [^\n]*\Z"):
        decode(written, [other])
    assert "code" not in encode(MaskedReconstruction())


def test_a_class_has_one_digest_before_and_after_an_object_is_copied():
    """Python then keeps the names of its slots in it."""
    kind = class_of("2 * super(made, self).loss(forward)")
    before = digest(kind)
    copy.copy(kind())
    assert "__slotnames__" in vars(kind) and digest(kind) == before


def test_a_class_of_a_familiar_name_is_not_ours():
    """Read back, it would have been masked reconstruction itself."""
    kind = type("MaskedReconstruction", (MaskedReconstruction,), {"__module__": "__main__"})
    with pytest.raises(
        ValueError, match=r"\Akind = '__main__:MaskedReconstruction': must be one of [^\n]*\Z"
    ):
        decode(encode(kind()), [MaskedReconstruction])


def test_what_is_put_into_our_classes_and_objects_counts(monkeypatch):
    plain, changed = to_text(MaskedReconstruction()), MaskedReconstruction()
    object.__setattr__(changed, "loss", closure(2))
    assert to_text(changed) != plain
    monkeypatch.setattr(MaskedReconstruction, "loss", closure(2))
    once = to_text(MaskedReconstruction())
    monkeypatch.setattr(MaskedReconstruction, "loss", closure(3))
    assert len({plain, once, to_text(MaskedReconstruction())}) == 3


def test_attributes_beside_the_fields_count():
    @dataclass(frozen=True, kw_only=True)
    class Mine(MaskedReconstruction):
        hidden: float = field(default=1.0, init=False)

        def __post_init__(self):
            object.__setattr__(self, "factor", next(factors))

    factors = iter((1.0, 1.0, 2.0))
    first, again, second = (to_text(Mine()) for _ in range(3))
    assert first == again != second


def test_a_specification_has_one_text_before_and_after_its_run():
    """What it keeps for later is no part of it, also where that holds arrays, which have no equality."""
    flow = MeanField(sizes=AreaSizes.from_exponents(1e4, 0.9, 0.3), objective=MaskedReconstruction())
    before = to_text(flow)
    integrate(flow)
    assert "right_hand_side" in vars(flow) and to_text(flow) == before
    mixture = Mixture()
    before = to_text(mixture)
    assert mixture.contrast and mixture.reconstruction and to_text(mixture) == before


def test_why_a_specification_has_no_name():
    rng = np.random.default_rng(0)
    distribution = Custom(draw=lambda generator, shape: 1 + rng.random(shape), low=1.0, high=2.0)
    assert encode(distribution)["draw"]["code"] is None
    assert "numpy.random" in why_unnamed([distribution])
    assert why_unnamed({"a": [MaskedReconstruction()], "b": 1.5}) is None
