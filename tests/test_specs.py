"""Specifications as JSON (exact): the round trip, equal text for equal specs, and what is refused."""

import json

import pytest

from vitdyn._code import digest
from vitdyn._specs import decode, encode, to_text
from vitdyn.data import (
    DISTRIBUTIONS,
    Beta,
    Constant,
    Custom,
    PatchGenerator,
    PatchLayout,
    TruncatedNormal,
    TwoPoint,
    Uniform,
)

KINDS = (*DISTRIBUTIONS.values(), PatchLayout, PatchGenerator)

LAWS_WITH_EVERY_FIELD_SET = [
    Uniform(low=0.25, high=3.0),
    TwoPoint(low=0.25, high=3.0, probability_high=0.125),
    TruncatedNormal(low=0.25, high=3.0, location=-1.0, scale=0.75),
    Beta(low=0.25, high=3.0, alpha=0.5, beta=7.0),
    Constant(value=0.1 + 0.2),
]
LAYOUTS = [
    PatchLayout.from_exponents(50, 0.75, 0.3, clusters=2),
    PatchLayout.from_exponents(36, 1.0, 0.5, grid=(4, 9), arrangement="contiguous"),
    PatchLayout.from_sizes([[3, 2, 1], [2, 4]]),
    PatchLayout(partition=((0, 1),)),
]
GENERATORS = [
    PatchGenerator(layout=LAYOUTS[2]),
    *(PatchGenerator(layout=LAYOUTS[1], latents=distribution) for distribution in LAWS_WITH_EVERY_FIELD_SET),
]


SPECS = [*LAWS_WITH_EVERY_FIELD_SET, *LAYOUTS, *GENERATORS]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
def test_round_trip(spec):
    text = to_text(spec)
    rebuilt = decode(json.loads(text), KINDS)
    assert rebuilt == spec
    assert type(rebuilt) is type(spec)
    assert hash(rebuilt) == hash(spec)
    assert to_text(rebuilt) == text


def test_every_law_is_covered():
    assert {type(distribution) for distribution in LAWS_WITH_EVERY_FIELD_SET} == set(DISTRIBUTIONS.values())


def test_encoding_is_plain_and_readable():
    layout = PatchLayout(partition=((0, 1),), grid=(1, 2))
    assert encode(PatchGenerator(layout=layout, latents=Constant(value=2.0))) == {
        "kind": "PatchGenerator",
        "layout": {"kind": "PatchLayout", "partition": [[0, 1]], "grid": [1, 2], "exponents": None},
        "latents": {"kind": "Constant", "value": 2.0},
    }


def test_text_is_one_line_with_sorted_keys():
    text = to_text({"b": 1, "a": Uniform()})
    assert text == '{"a": {"high": 1.5, "kind": "Uniform", "low": 1.0}, "b": 1}'


def test_containers_hold_specs():
    value = {"distributions": (Uniform(), Constant()), "name": "x", "count": 3, "none": None, "flag": True}
    assert decode(encode(value), KINDS) == value


def test_numbers_that_json_lacks_are_refused():
    with pytest.raises(ValueError):
        to_text({"value": float("nan")})


def flat_draw(generator, shape):
    return 0.5 + generator.random(shape)


def test_functions_are_named_but_not_rebuilt():
    distribution = Custom(draw=flat_draw, low=0.5, high=1.5)
    written = json.loads(to_text(PatchGenerator(layout=LAYOUTS[3], latents=distribution)))
    assert written["latents"]["draw"] == {"function": f"{__name__}:flat_draw", "code": digest(flat_draw)}
    with pytest.raises(ValueError, match=r"\Afunction = .*flat_draw': a function is not rebuilt .*\Z"):
        decode(written, (*KINDS, Custom))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"kind": "Cube"}, r"\Akind = 'Cube': must be one of Beta, Constant, PatchGenerator, .*, Uniform\Z"),
        ({"kind": "PatchGenerator", "layout": {"kind": "Cube"}}, r"\Akind = 'Cube': must be one of .*\Z"),
        ({"kind": "Uniform", "hihg": 2.0}, r"\AUniform\.hihg = 2\.0: Uniform has the fields high, low\Z"),
        ({"kind": "Uniform", "low": 2.0}, r"\AUniform\.high = 1\.5: must be a number in \[2, 1e\+06\]\Z"),
        ({"kind": "PatchLayout", "partition": [[0, 0]]}, r"\Apartition\[0\] = \[0\]: must have at .*\Z"),
    ],
)
def test_bad_values_are_named(value, message):
    with pytest.raises(ValueError, match=message):
        decode(value, KINDS)


def test_only_the_given_kinds_are_built():
    with pytest.raises(ValueError, match=r"\Akind = 'Uniform': must be one of Constant\Z"):
        decode(encode(Uniform()), [Constant])
