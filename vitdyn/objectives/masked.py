"""What objectives of masked patches share: which queries they train, a learning rate, refusals of their fields."""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitdyn._errors import require_real
from vitdyn.data import PatchLayout
from vitdyn.objectives.forward import ForwardPass
from vitdyn.objectives.objective import Objective


@dataclass(frozen=True, kw_only=True)
class MaskedPatches(Objective):
    """An objective that averages over masked patches, of one view, γ = ``mask_ratio`` of all."""

    mask_ratio: float = field(default=0.5, metadata={"help": "γ, the share of patches that are masked."})

    def __post_init__(self) -> None:
        require_real("mask_ratio", self.mask_ratio, low=0.0, high=1.0, open_low=True, open_high=True)

    def loss_queries(self, forward: ForwardPass) -> Bool[Tensor, "seed sample query"]:
        """Return the masked patches: no other query enters the loss."""
        return ~forward.views[0]

    def default_learning_rate(self, layout: PatchLayout) -> float:
        """Return 4 P K: the mean over patches divides the gradient of one position by P, the draw of a cluster by K."""
        return 4.0 * layout.patches * layout.clusters


def unreachable(forward: ForwardPass, power: int) -> Float[Tensor, " seed"]:
    """Return the sum of |z_a| to a power over the patches of wholly masked areas, which no model reconstructs."""
    batch = forward.batch
    # an area with a visible patch has a key to attend to, so its patches can be reproduced exactly
    lost = (batch.visible_count(forward.views[0]) == 0) * batch.area_sizes * batch.latents.abs().pow(power)
    return lost.sum((1, 2))


def masked_patches(forward: ForwardPass) -> Int[Tensor, " seed"]:
    """Return how many patches the first view masks in all samples of a seed."""
    return (~forward.views[0]).sum((1, 2))
