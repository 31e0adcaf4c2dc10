"""The result of one training: what its encoder does by depth, as a Trajectory of one frame and one seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from vitdyn._axes import FRAME, SEED, TRAINING_STEP
from vitdyn._errors import invalid_value, require_kind
from vitdyn._specs import decode, to_text
from vitdyn.observables.labels import labelled_trajectory
from vitdyn.trajectory import Trajectory
from vitdyn.vits.pretraining import Pretraining

if TYPE_CHECKING:
    import xarray

BLOCK, HEAD, DEPTH = "block", "head", "depth"

MEANINGS = {
    "attention_distance": "mean distance from query to key, pixels",
    "mutual_information": "normalised mutual information of query and key",
    "attention_entropy": "entropy of a row of attention, nats",
    "top_key_scores": "mean of the largest scores of keys",
    "high_frequency": "log amplitude at the highest frequency, relative to the mean",
    "feature_map_variance": "variance over the grid, mean over channels",
    "token_similarity": "mean cosine of two tokens of an image",
    "rank_me": "RankMe of mean tokens",
    "cka_to_last": "linear CKA with the last depth",
    "linear_accuracy": "accuracy of a linear probe on test images",
    "neighbour_accuracy": "accuracy of nearest neighbours on test images",
    "lidar": "LiDAR of mean tokens, views = augmentations",
}
"""What is measured of an encoder: of attention by block (from 1) and head, of tokens by depth (0: before the first)."""


def to_trajectory(
    spec: Pretraining, found: dict[str, Tensor], losses: Tensor, *, device: str, machine: str, seconds: float
) -> Trajectory:
    """Label what was measured at the end, and ``training_loss``, the loss before each step."""
    # one frame and one seed: the axes that every trajectory has
    variables: dict[str, Any] = {
        name: (
            (FRAME, SEED, BLOCK, HEAD) if values.ndim == 2 else (FRAME, SEED, DEPTH),
            values.numpy()[None, None],
            {"long_name": MEANINGS[name]},
        )
        for name, values in found.items()
    }
    variables["training_loss"] = training_losses(losses)
    blocks = spec.vit.depth
    variables |= {BLOCK: (BLOCK, np.arange(1, blocks + 1)), DEPTH: (DEPTH, np.arange(blocks + 1))}
    steps, about = np.array([spec.steps]), {"spec": to_text({"training": spec}), "device": device}
    return labelled_trajectory(
        (),
        {},
        steps=steps,
        times=steps * spec.learning_rate,
        seeds=(spec.seed,),
        others=variables,
        attributes={**about, "machine": machine, "seconds": seconds},
    )


def training_losses(losses: Tensor) -> tuple[Any, ...]:
    """Return the loss before each step as the variable that a Trajectory holds."""
    return ((SEED, TRAINING_STEP), losses.numpy()[None], {"long_name": "loss before the step"})


def spec_of(trajectory: Trajectory) -> Pretraining:
    """Return the training that a trajectory is the result of. Raises ``ValueError`` for one of another kind."""
    require_kind("trajectory", trajectory, Trajectory)
    training = trajectory.spec.get("training")
    if not isinstance(training, dict) or training.get("kind") != Pretraining.__name__:
        raise invalid_value("trajectory", training, "must be the result of a Pretraining")
    return decode(training, Pretraining.kinds())


def by_depth(trajectory: Trajectory, name: str) -> Float[np.ndarray, " depth"]:
    """Return one variable by depth or block, the mean over heads where it has heads."""
    if name not in MEANINGS:
        raise invalid_value("name", name, f"must be one of {', '.join(MEANINGS)}")
    require_kind("trajectory", trajectory, Trajectory)
    # the last frame is the only one: an encoder is evaluated at the end
    values: xarray.DataArray = trajectory[name].isel({FRAME: -1, SEED: 0})
    return (values.mean(HEAD) if HEAD in values.dims else values).to_numpy()
