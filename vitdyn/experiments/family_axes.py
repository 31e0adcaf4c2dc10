"""What is varied in each family on the map of objectives: an axis, and the objectives that have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vitdyn.objectives import OBJECTIVES, Objective


class FamilyAxis(NamedTuple):
    """What is varied: its name, its values, and each row's field of the objective with the fields that stay.

    A row's first word names its objective. Values are in units of the field's default where ``relative``.
    """

    title: str
    across: str
    values: Sequence[float]
    rows: Mapping[str, tuple[str, dict[str, Any]]]
    relative: bool = False

    def objective(self, row: str, value: float) -> Objective:
        """Return the objective of a row at a value."""
        field, others = self.rows[row]
        kind = OBJECTIVES[row.partition(",")[0]]
        return kind(**{field: value * getattr(kind, field) if self.relative else value, **others})


def _alike(field: str, *names: str) -> dict[str, tuple[str, dict[str, Any]]]:
    return {name: (field, {}) for name in names}


_CONTRAST = {
    **_alike("temperature", "cl", "simclr", "moco"),
    "simclr, inner product": ("temperature", {"normalise": False}),
}
_REPULSION = {
    "vicreg, variance": ("variance", {}),
    "vicreg, covariance": ("covariance", {}),
    **_alike("weight", "barlow-twins", "alignment-uniformity"),
}
_TEACHERS = {
    **_alike("momentum", "byol", "dino", "data2vec", "i-jepa"),
    "byol, no predictor": ("momentum", {"predictor_rate": 0.0}),
}
_MASKED = _alike("mask_ratio", "mae", "simmim", "beit", "u-mae")
_PROTOTYPES = _alike("prototypes", "swav", "msn", "deepcluster")

AXES = (
    FamilyAxis("contrast", "temperature τ", (0.05, 0.1, 0.2, 0.5, 1.0, 2.0), _CONTRAST),
    FamilyAxis(
        "decorrelation", "weight of repulsion, times default", (0.0, 0.1, 1.0, 10.0), _REPULSION, True
    ),
    FamilyAxis("generative", "mask ratio γ", (0.25, 0.5, 0.75, 0.9), _MASKED),
    FamilyAxis(
        "hybrid", "weight", (0.2, 0.4, 0.6, 0.8, 1.0), _alike("weight", "mixture", "rc-mae", "cmae", "ibot")
    ),
    FamilyAxis("clustering", "number of prototypes", (2, 4, 8, 16), _PROTOTYPES),
    FamilyAxis("clustering", "ε of Sinkhorn", (0.02, 0.05, 0.2, 1.0), _alike("epsilon", "swav")),
    FamilyAxis("self-distillation", "momentum of the teacher", (0.0, 0.9, 0.99, 0.999), _TEACHERS),
    FamilyAxis(
        "self-distillation",
        "learning rate of the predictor",
        (0.0, 0.01, 0.1, 1.0),
        _alike("predictor_rate", "byol", "simsiam"),
    ),
)
