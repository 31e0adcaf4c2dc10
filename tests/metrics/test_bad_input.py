"""What all public metrics take for an array, and what they refuse: one rule, over every array of every metric (exact).

A metric that ``vitdyn.metrics`` lists must be listed in ``public_metrics``; everything here follows.
"""

import warnings
from math import inf, nan

import numpy as np
import pytest
import torch
from public_metrics import CALLS, EVERY, GIVE_NAN, LABELS, NUMBERS, call, converted, refused

from vitdyn import metrics


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
        coarse = name == "top_key_concentration" and how in ("half precision", "bfloat16", "single precision")
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
        expected = [each * (scale if name == "top_key_concentration" else 1) for each in call(name)]
        for one, other in zip(call(name, {array: values}), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)
    else:
        assert refused(name, array, values, words="scale it")
