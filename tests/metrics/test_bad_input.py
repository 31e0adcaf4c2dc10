"""What all public metrics take for an array, and what they refuse: one rule, over every array of every metric (exact).

A metric that ``vitdyn.metrics`` lists must be listed here, with arguments that are right; everything else follows.
"""

import inspect
import re
import sys
import warnings
from dataclasses import dataclass, field, fields
from fractions import Fraction
from math import inf, nan

import numpy as np
import pytest
import torch

from vitdyn import metrics
from vitdyn.metrics import attention, clusters, geometry, neighbours, probe, rank, similarity, spectra
from vitdyn.metrics.measured import Convention

TREE = np.random.default_rng(11)
FEATURES = np.round(8 * TREE.standard_normal((12, 4)))  # whole numbers: the same in every type
OTHERS = np.round(8 * TREE.standard_normal((12, 4)))
MAPS = TREE.integers(1, 9, (2, 3, 9, 9)).astype(float)
TOKENS = np.round(8 * TREE.standard_normal((3, 9, 4)))
LABELS = np.resize(np.arange(3), 12)
LABELLED = {"features": FEATURES, "labels": LABELS, "test_features": OTHERS, "test_labels": LABELS[::-1]}
TARGETS = {"features": FEATURES, "targets": OTHERS[:, :2]}


@dataclass
class Call:
    """A public function, the arrays that it takes, by name, and what else it needs."""

    arrays: dict
    more: dict = field(default_factory=dict)
    function: object = None


def scores_of_a_map(features):
    return metrics.LinearMap(torch.ones(4, 2).double(), torch.zeros(2).double()).scores(features)


CALLS = {
    "LinearMap": Call({"features": FEATURES}, function=scores_of_a_map),
    "agreement_interval": Call({"scores": FEATURES.T, "quality": OTHERS.T}, {"resamples": 20}),
    "alignment": Call({"first": FEATURES, "second": OTHERS}),
    "attention_by_depth": Call({"maps": [MAPS, MAPS[::-1]], "positions": FEATURES[:9, :2]}),
    "attention_distance": Call({"attention": MAPS, "positions": FEATURES[:9, :2]}),
    "attention_diversity": Call({"attention": MAPS}),
    "attention_entropy": Call({"attention": MAPS}),
    "cka": Call({"first": FEATURES, "second": OTHERS}),
    "clid": Call({"learnability": FEATURES[:, 0], "dimension": OTHERS[:, 0]}),
    "cluster_learnability": Call({"features": FEATURES}, {"clusters": 3, "seed": 0}),
    "diagonal_frequencies": Call({}, {"side": 4}),
    "feature_map_variance": Call({"features": TOKENS}),
    "fit_logistic": Call({"features": FEATURES, "labels": LABELS}, {"penalty": 1.0}),
    "fit_ridge": Call(TARGETS, {"penalty": 0.1}),
    "fourier_log_amplitude": Call({"features": TOKENS}, {"side": 3}),
    "grid_positions": Call({}, {"rows": 2, "columns": 3}),
    "head_deviation": Call({"attention": MAPS}),
    "homogeneity": Call({"vectors": TOKENS}, {"over": "token"}),
    "intrinsic_dimension": Call({"features": FEATURES}),
    "k_means": Call({"features": FEATURES}, {"clusters": 3, "seed": 0}),
    "lidar": Call({"embeddings": TOKENS}),
    "logistic_probe": Call(LABELLED, {"penalty": 1.0}),
    "mutual_information": Call({"attention": MAPS}),
    "ne_sum": Call({"features": FEATURES}),
    "nearest": Call({"queries": OTHERS, "among": FEATURES}, {"count": 2}),
    "neighbour_accuracy": Call(LABELLED, {"neighbours": 3}),
    "participation_ratio": Call({"features": FEATURES}),
    "position_deviation": Call({"attention": MAPS}),
    "rank_agreement": Call({"scores": FEATURES.T, "quality": OTHERS.T}),
    "rank_me": Call({"features": FEATURES}),
    "representations_by_depth": Call({"tokens": [TOKENS, TOKENS[::-1]]}, {"side": 3}),
    "ridge_determination": Call(
        TARGETS | {"test_features": OTHERS, "test_targets": FEATURES[:, :2]}, {"penalty": 0.1}
    ),
    "ridge_probe": Call(LABELLED, {"penalty": 0.1}),
    "singular_value_spectrum": Call({"features": FEATURES}, {"by": "token"}),
    "spectral_decay": Call({"features": FEATURES}, {"first": 1, "last": 4}),
    "top_key_scores": Call({"attention": MAPS}, {"top": 3}),
    "uniformity": Call({"features": FEATURES}),
}
GIVE_NAN = {"attention_diversity", "rank_agreement", "agreement_interval"}
"""What is recorded along a run, or read over models of which one may have no value, is NaN and not refused."""
EVERY = [
    pytest.param(name, array, id=f"{name}-{array}") for name, call in CALLS.items() for array in call.arrays
]
NUMBERS = [case for case in EVERY if "labels" not in case.values[1]]


def call(name, changes=None, **more):
    """Call a function on torch's float64, one array exchanged; return what came back as a list of tensors."""
    asked = CALLS[name]
    arrays = {key: converted(values, torch.tensor) for key, values in asked.arrays.items()} | (changes or {})
    found = (asked.function or getattr(metrics, name))(**arrays | asked.more | more)
    return flat(found)


def converted(values, convert):
    return (
        [converted(each, convert) for each in values] if isinstance(values, list) else convert(values.copy())
    )


def flat(found):
    if isinstance(found, metrics.Measured):
        return flat(found.value)
    if isinstance(found, dict | tuple):
        return [
            tensor for each in (found.values() if isinstance(found, dict) else found) for tensor in flat(each)
        ]
    return [found if isinstance(found, torch.Tensor) else torch.tensor(found)]


def refused(name, array, given, *, words=""):
    """Whether the call ends in one line of the house's form, which names the array."""
    try:
        call(name, {array: given})
    except ValueError as error:
        line = str(error)
        assert "\n" not in line and ": " in line and array in line.split(" = ")[0] and words in line, line
        return True
    return False


def test_every_public_function_is_here():
    assert set(CALLS) | {"Measured"} == set(metrics.__all__)


@pytest.mark.parametrize(("name", "array"), NUMBERS)
def test_what_is_not_finite_is_named_or_gives_nan(name, array):
    """The first or the last entry of an array, the second of a sequence: NaN where that belongs, or one line."""
    for bad, place in ((nan, 0), (inf, -1), (-inf, -1)):
        values = converted(CALLS[name].arrays[array], torch.tensor)
        spoilt = values[-1] if isinstance(values, list) else values
        spoilt.view(-1)[place] = bad
        if name in GIVE_NAN:
            lacking(name, call(name, {array: values}))
            continue
        index = np.unravel_index(place % spoilt.numel(), spoilt.shape)
        which = f"{array}[1]" if isinstance(values, list) else array
        with pytest.raises(ValueError, match="must be finite; 1 of") as error:
            call(name, {array: values})
        assert str(error.value).startswith(f"{which}[{', '.join(map(str, index))}] = {bad}: ")


def lacking(name, found):
    """Assert that something is NaN, and that whatever is not is what it was."""
    assert any(each.isnan().any() for each in found)
    for one, other in zip(found, call(name), strict=True):
        assert bool((one.isnan() | (one == other)).all())


LABEL_ARRAYS = [case for case in EVERY if case not in NUMBERS]


@pytest.mark.parametrize(("name", "array"), LABEL_ARRAYS)
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (np.r_[nan, LABELS[1:]], "whole numbers"),
        (np.r_[0.5, LABELS[1:]], "whole numbers"),
        (LABELS - 1, "0 or more"),
        (np.uint64(2**63) + LABELS.astype(np.uint64), "0 or more"),
        (LABELS[:-1], "must end in 12 samples"),
        (np.stack([LABELS, LABELS]), "must broadcast to (12,)"),
        (np.eye(12, dtype=int), "must broadcast to (12,)"),
    ],
)
def test_labels_are_whole_numbers_one_for_each_sample(name, array, given, words):
    assert refused(name, array, given, words=words)


def read_only(values):
    values.setflags(write=False)
    return values


CONTAINERS = {
    "numpy": lambda values: values,
    "nested lists": lambda values: values.tolist(),
    "read-only": read_only,
    "other byte order": lambda values: values.astype(values.dtype.newbyteorder(">")),
    "negative steps": lambda values: values[::-1].copy()[::-1],
    "column by column": np.asfortranarray,
    "long double": lambda values: values.astype(np.longdouble) if values.dtype.kind == "f" else values,
    "whole numbers": lambda values: values.astype(np.int16),
    "tensors in a list": lambda values: list(torch.tensor(values)),
    "not contiguous": lambda values: torch.tensor(np.repeat(values, 2, -1))[..., ::2],
    "single precision": lambda values: torch.tensor(values).float() if values.dtype.kind == "f" else values,
    "bfloat16": lambda values: torch.tensor(values).bfloat16() if values.dtype.kind == "f" else values,
    "half precision": lambda values: torch.tensor(values).half() if values.dtype.kind == "f" else values,
    "integers": lambda values: torch.tensor(values).to(torch.int32),
    "with a gradient": lambda values: (
        torch.tensor(values).requires_grad_() if values.dtype.kind == "f" else torch.tensor(values)
    ),
}


@pytest.mark.parametrize(("name", "array"), EVERY)
def test_arrays_of_all_kinds_are_read_alike(name, array):
    """To the bit, where the metric computes in float64; and without a warning."""
    expected = call(name)
    for how, convert in CONTAINERS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = call(name, {array: converted(CALLS[name].arrays[array], convert)})
        coarse = name == "attention_diversity" and how in ("half precision", "bfloat16", "single precision")
        for one, other in zip(found, expected, strict=True):
            assert isinstance(one, torch.Tensor)
            np.testing.assert_allclose(
                one.detach().double(), other.double(), rtol=2e-2 if coarse else 1e-12, err_msg=how
            )


def unsigned(values):
    return torch.tensor(np.abs(values)).to(torch.uint16)


@pytest.mark.parametrize(("name", "array"), EVERY)
def test_unsigned_whole_numbers_are_read(name, array):
    values = CALLS[name].arrays[array]
    positive = converted(values, lambda each: torch.tensor(np.abs(each)))
    found, expected = call(name, {array: converted(values, unsigned)}), call(name, {array: positive})
    assert all(torch.equal(one.double(), other.double()) for one, other in zip(found, expected, strict=True))


def quantised(values):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.tensor(values).float(), 1.0, 0, torch.qint32)


def masked(values):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.masked.masked_tensor(torch.tensor(values), torch.tensor(values) > 0)


UNREADABLE = {
    "sparse": lambda values: torch.tensor(values).to_sparse(),
    "rows of a sparse one": lambda values: torch.tensor(values).flatten(1).to_sparse_csr(),
    "meta": lambda values: torch.tensor(values).to("meta"),
    "quantised": quantised,
    "masked": masked,
    "masked by numpy": lambda values: np.ma.masked_equal(values, values.flat[0]),
    "complex": lambda values: torch.tensor(values).to(torch.complex64),
    "complex numpy": lambda values: values.astype(complex),
    "eight bits": lambda values: torch.tensor(values).to(torch.float8_e4m3fn),
    "words": lambda values: values.astype(str),
    "a word": lambda values: "features",
    "objects": lambda values: values.astype(object),
    "ragged": lambda values: [[1.0, 2.0], [3.0]],
    "tensors of two shapes": lambda values: [torch.ones(3), torch.ones(2)],
    "dates": lambda values: values.astype("datetime64[s]"),
    "None": lambda values: None,
    "a dictionary": lambda values: {"features": 1.0},
    "a set": lambda values: {1.0, 2.0},
    "a generator": lambda values: (each for each in values),
    "a function": lambda values: len,
    "a number": lambda values: 3.0,
    "nothing": lambda values: [],
    "no entries": lambda values: np.zeros((0,) * max(1, values.ndim)),
}


@pytest.mark.filterwarnings("ignore:Sparse", "ignore:The PyTorch API of MaskedTensors")
@pytest.mark.parametrize(("name", "array"), EVERY)
def test_what_is_no_real_array_is_refused_in_one_line(name, array):
    values = CALLS[name].arrays[array]
    for kind, spoil in UNREADABLE.items():
        if kind == "rows of a sparse one" and not isinstance(values, list) and values.ndim == 1:
            continue  # a vector has none
        spoilt = converted(values, spoil)
        if kind == "masked by numpy" and name in GIVE_NAN:
            lacking(name, call(name, {array: spoilt}))
        else:
            assert refused(name, array, spoilt), kind


@pytest.mark.filterwarnings("ignore:Sparse", "ignore:The PyTorch API of MaskedTensors")
@pytest.mark.parametrize(
    ("name", "array"), [("attention_by_depth", "maps"), ("representations_by_depth", "tokens")]
)
@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_is_no_sequence_of_arrays_is_refused(name, array, kind):
    assert refused(name, array, UNREADABLE[kind](CALLS[name].arrays[array][0]))


@pytest.mark.parametrize(("name", "array"), NUMBERS)
@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_numbers_whose_squares_leave_the_range_are_refused_or_right(name, array, scale):
    """A metric either says that it cannot, or does not see the scale."""
    values = converted(CALLS[name].arrays[array], lambda each: scale * torch.tensor(each))
    if name in {"homogeneity", *GIVE_NAN}:
        expected = [each * (scale if name == "attention_diversity" else 1) for each in call(name)]
        for one, other in zip(call(name, {array: values}), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)
    else:
        assert refused(name, array, values, words="scale it")


def one_more(values, axis):
    return np.concatenate([values, np.take(values, [0], axis)], axis)


PAIRS = [case for case in EVERY if len(CALLS[case.values[0]].arrays) > 1]
ONE_LINE = r"\A[^\n]+ = [^\n]+: [^\n]+\Z"


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
    + [("LinearMap", "features"), ("alignment", "second"), ("ridge_determination", "test_targets")],
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
