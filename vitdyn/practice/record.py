"""The result of one run: what its encoder does by depth, with everything that is needed to make it again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import wrong
from vitdyn.practice.pretraining import Pretraining
from vitdyn.trajectory import read_result, unusable, versions, write_result

if TYPE_CHECKING:
    import xarray

SCHEMA = "vitdyn practice 2"

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
"""The variables of a record."""


@dataclass(frozen=True)
class Record:
    """What a run measured, as an ``xarray.Dataset``.

    Dimensions: ``block`` (from 1) and ``head`` for attention, ``depth`` (0: before the first block) for tokens,
    ``step`` for the ``loss``. Attributes hold the specification as JSON, versions, the device, the machine
    (several, where a run went on elsewhere) and the seconds taken.
    """

    dataset: xarray.Dataset

    @classmethod
    def of(
        cls,
        spec: Pretraining,
        found: dict[str, Tensor],
        losses: Tensor,
        *,
        device: str,
        machine: str,
        seconds: float,
    ) -> Record:
        """Label what was measured."""
        import xarray

        variables = {
            name: (
                ("block", "head") if values.ndim == 2 else ("depth",),
                values.numpy(),
                {"long_name": MEANINGS[name]},
            )
            for name, values in found.items()
        }
        blocks = spec.architecture.layers
        coordinates = {"block": np.arange(1, blocks + 1), "depth": np.arange(blocks + 1)}
        about = {
            "schema": SCHEMA,
            "spec": spec.to_json(),
            "device": device,
            "machine": machine,
            "seconds": seconds,
            "versions": versions("vitdyn", "torch", "transformers", "numpy", "xarray"),
        }
        loss = (("step",), losses.numpy(), {"long_name": "loss before the step"})
        return cls(xarray.Dataset({**variables, "loss": loss}, coordinates, about))

    @property
    def spec(self) -> Pretraining:
        """The specification of the run."""
        return Pretraining.from_json(self.dataset.attrs["spec"])

    def by_depth(self, name: str) -> Float[np.ndarray, " depth"]:
        """Return one variable by depth or block, the mean over heads where it has heads."""
        if name not in MEANINGS:
            raise wrong("name", name, f"must be one of {', '.join(MEANINGS)}")
        values = self.dataset[name]
        return (values.mean("head") if "head" in values.dims else values).to_numpy()

    def save(self, path: Path) -> Path:
        """Write a netCDF4 file with a checksum at its end, whole or not at all."""
        write_result(path, self.dataset)
        return path

    @classmethod
    def load(cls, path: Path) -> Record:
        """Read a file that ``save`` wrote.

        Raises ``ValueError`` for one that is missing, damaged, of another schema, or holds no record.
        """
        dataset = read_result(path, SCHEMA)
        lacks = sorted({*MEANINGS, "loss"} - {*map(str, dataset.data_vars)})
        if lacks:
            raise unusable(path, f"holds no record: {', '.join(lacks)} missing")
        return cls(dataset)
