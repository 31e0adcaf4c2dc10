"""Every public function of ``vitdyn.metrics``, with arguments that are right: what the tests of bad input spoil."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from vitdyn import metrics

ONE_LINE = r"\A[^\n]+ = [^\n]+: [^\n]+\Z"
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
    "top_key_concentration": Call({"attention": MAPS}),
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
    "ridge_r_squared": Call(
        TARGETS | {"test_features": OTHERS, "test_targets": FEATURES[:, :2]}, {"penalty": 0.1}
    ),
    "ridge_probe": Call(LABELLED, {"penalty": 0.1}),
    "singular_value_spectrum": Call({"features": FEATURES}, {"by": "token"}),
    "spectral_decay": Call({"features": FEATURES}, {"first": 1, "last": 4}),
    "top_key_scores": Call({"attention": MAPS}, {"top": 3}),
    "uniformity": Call({"features": FEATURES}),
}
GIVE_NAN = {"top_key_concentration", "rank_agreement", "agreement_interval"}
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
