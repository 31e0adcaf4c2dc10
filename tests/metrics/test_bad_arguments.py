"""Arguments of metrics and of conventions that do not fit, or are nothing of the kind: one line each (exact)."""

import inspect
import re
import sys
import warnings
from dataclasses import fields
from fractions import Fraction
from math import inf, nan

import numpy as np
import pytest
import torch
from public_metrics import CALLS, EVERY, FEATURES, GIVE_NAN, ONE_LINE, call, converted

from vitdyn import metrics
from vitdyn.metrics import attention, clusters, geometry, neighbours, probe, rank, similarity, spectra
from vitdyn.metrics.measured import Convention


def one_more(values, axis):
    return np.concatenate([values, np.take(values, [0], axis)], axis)


PAIRS = [case for case in EVERY if len(CALLS[case.values[0]].arrays) > 1]


@pytest.mark.parametrize(("name", "array"), PAIRS)
def test_arrays_that_do_not_fit_together_are_refused_in_one_line(name, array):
    """One sample more, and leading axes of two lengths."""
    arrays = CALLS[name].arrays
    longer = converted(arrays[array], lambda one: one_more(one, 0 if one.ndim < 3 else -2))
    stacked = {key: converted(values, lambda one: np.stack([one] * 3)) for key, values in arrays.items()}
    stacked[array] = converted(arrays[array], lambda one: np.stack([one] * 2))
    for given in (stacked,) if name == "nearest" else ({array: longer}, stacked):
        with pytest.raises(ValueError, match=ONE_LINE):
            call(name, given)


@pytest.mark.parametrize(
    ("name", "array"),
    [case for case in EVERY if case.values[1] in ("queries", "among", "test_features")]
    + [("LinearMap", "features"), ("alignment", "second"), ("ridge_r_squared", "test_targets")],
)
def test_other_features_than_those_of_the_fit_are_refused_in_one_line(name, array):
    with pytest.raises(ValueError, match=ONE_LINE):
        call(name, {array: one_more(CALLS[name].arrays[array], -1)})


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("agreement_interval", {"seed": None}),
        ("agreement_interval", {"seed": np.random.RandomState(0)}),
        ("cluster_learnability", {"seed": -1}),
        ("k_means", {"seed": 0.5}),
        ("k_means", {"clusters": "3"}),
        ("k_means", {"clusters": True}),
        ("nearest", {"count": 0}),
        ("nearest", {"count": 13}),
        ("nearest", {"count": 2.0}),
        ("attention_distance", {"positions": (3, 3.0)}),
        ("attention_distance", {"positions": ("3", "3")}),
        ("attention_distance", {"positions": (3, 3, 1)}),
        ("attention_distance", {"positions": 9}),
        ("attention_distance", {"prefix": -1}),
        ("attention_distance", {"pitch": nan}),
        ("grid_positions", {"pitch": nan}),
        ("grid_positions", {"pitch": "16"}),
        ("grid_positions", {"rows": 10**9, "columns": 10**9}),
        ("diagonal_frequencies", {"side": 10**12}),
        ("diagonal_frequencies", {"side": (4, 4, 4)}),
        ("diagonal_frequencies", {"side": "14"}),
        ("fourier_log_amplitude", {"side": (9, 1)}),
        ("fourier_log_amplitude", {"side": 3.0}),
        ("representations_by_depth", {"side": 1}),
        ("representations_by_depth", {"side": None}),
        ("top_key_scores", {"top": "3"}),
        ("spectral_decay", {"first": 1.5}),
        ("fit_ridge", {"penalty": nan}),
        ("fit_ridge", {"penalty": "0.1"}),
        ("logistic_probe", {"penalty": 0}),
        ("homogeneity", {"over": None}),
        ("neighbour_accuracy", {"neighbours": 13}),
        ("uniformity", {"convention": None}),
    ],
)
def test_other_arguments_are_refused_in_one_line(name, more):
    with pytest.raises(ValueError, match=ONE_LINE):
        call(name, **more)


class Liar:
    """A sequence that is none."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise KeyError(index)


class Unreadable:
    """What cannot be made an array, or shown."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no\nvalues")

    def __repr__(self):
        raise ValueError("no\nname")


def odd_values():
    """What no argument of any metric is."""
    return [
        None,
        "abc",
        -1,
        -0.5,
        nan,
        inf,
        10**30,
        {},
        [None],
        ["a", "b"],
        b"abc",
        object(),
        int,
        len,
        Liar(),
        Unreadable(),
        1 + 2j,
        torch.device("cpu"),
        torch.float32,
        np.random.RandomState(0),
        np.datetime64("2020"),
        np.zeros((12, 4), dtype=[("a", float)]),
        np.ma.masked_all((12, 4)),
        torch.full((12, 4), nan),
        [[1e400, 1.0], [2.0, 3.0]],
    ]


def arguments(name):
    if name == "LinearMap":
        return ["features"]
    return list(inspect.signature(getattr(metrics, name)).parameters)


@pytest.mark.parametrize("name", CALLS)
def test_odd_values_of_any_argument_are_refused_in_one_line(name):
    """10^30 may pass where it has a meaning: a seed, how many at most."""
    for argument in arguments(name):
        for index, value in enumerate(odd_values()):
            try:
                found = call(name, **{argument: value})
            except ValueError as error:
                assert re.match(ONE_LINE, str(error)), (argument, index, str(error))
            else:
                many = isinstance(value, int) and value == 10**30
                assert many or (name in GIVE_NAN and found[0].isnan().any()), (argument, index)


def test_numbers_of_other_kinds_are_numbers():
    """A fraction, the short numbers of numpy, whose sums wrap around, C's long long."""
    half = Fraction(1, 2)
    assert torch.equal(call("fit_ridge", penalty=half)[0], call("fit_ridge", penalty=0.5)[0])
    assert torch.equal(metrics.grid_positions(2, 3, pitch=half), metrics.grid_positions(2, 3, pitch=0.5))
    assert geometry.SphereConvention(temperature=half) == geometry.SphereConvention(temperature=0.5)
    for name, more in (
        ("diagonal_frequencies", {"side": 200}),
        ("fourier_log_amplitude", {"side": (3, 3)}),
        ("grid_positions", {"rows": 200, "columns": 200}),
        ("nearest", {"count": 12}),
        ("spectral_decay", {"first": 1, "last": 200}),
        ("top_key_scores", {"top": 255, "prefix": 2}),
    ):
        short = {
            key: tuple(map(np.uint8, v)) if isinstance(v, tuple) else np.uint8(v) for key, v in more.items()
        }
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = call(name, **short)
        assert all(torch.equal(one, other) for one, other in zip(found, call(name, **more), strict=True))
    values = FEATURES.astype(np.longlong)
    assert torch.equal(call("rank_me", {"features": values})[0], call("rank_me")[0])


def test_a_map_of_other_numbers_is_read_or_refused(complaint):
    weight, bias = np.ones((4, 2)), [0.0, 1.0]
    found = metrics.LinearMap(weight, bias).scores(FEATURES)
    np.testing.assert_allclose(found, FEATURES @ weight + bias)
    with complaint("weight[0, 0]", "must be finite"):
        metrics.LinearMap(weight * nan, bias).scores(FEATURES)
    with complaint("shape of bias", "broadcast"):
        metrics.LinearMap(weight, [0.0, 1.0, 2.0]).scores(FEATURES)


CHOICES = [
    (kind, choice.name)
    for module in (
        attention,
        clusters,
        geometry,
        sys.modules["vitdyn.metrics.lidar"],
        neighbours,
        probe,
        rank,
        similarity,
        spectra,
    )
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Convention) and kind.__module__ == module.__name__
    for choice in fields(kind)
    if isinstance(choice.default, bool)
]


@pytest.mark.parametrize(("kind", "choice"), CHOICES)
@pytest.mark.parametrize("bad", ["no", 0, None, nan])
def test_what_a_convention_leaves_to_yes_or_no_is_a_boolean(kind, choice, bad, complaint):
    """ "no" and "false" would count as yes."""
    with complaint(choice, "must be True or False"):
        kind(**{choice: bad})


@pytest.mark.parametrize("kind", sorted({kind for kind, _ in CHOICES}, key=lambda kind: kind.__name__))
def test_odd_values_of_a_convention_are_refused_in_one_line(kind):
    for choice in fields(kind):
        for index, value in enumerate(odd_values()):
            if value is None and choice.default is None:
                continue
            with pytest.raises(ValueError, match=ONE_LINE):
                kind(**{choice.name: value})
                pytest.fail(f"{choice.name}: odd value {index} is taken")


def test_the_conventions_were_found():
    assert len(CHOICES) > 15
