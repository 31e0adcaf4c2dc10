"""What objectives of two masked views share: their fields, how the views are drawn, a batch that can be compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from vitdyn._errors import invalid_value, require_choice, require_real
from vitdyn.data import PatchLayout
from vitdyn.data.masking import VIEW_KINDS
from vitdyn.objectives.masking import Masking
from vitdyn.objectives.objective import Objective


@dataclass(frozen=True, kw_only=True)
class TwoViews(Objective):
    """An objective of two views of each sample, each masked at ``mask_ratio`` γ, that compares samples of a batch.

    ``views`` says how the two masks are drawn. A subclass that no other sample enters has ``least_samples`` 1.
    """

    view_count: ClassVar[int] = 2
    least_samples: ClassVar[int] = 2

    mask_ratio: float = field(default=0.5, metadata={"help": "γ, the share of patches masked in each view."})
    views: str = field(
        default="independent", metadata={"help": "How the two masks are drawn: independent or complementary."}
    )

    def __post_init__(self) -> None:
        require_real("mask_ratio", self.mask_ratio, low=0.0, high=1.0, open_low=True, open_high=True)
        require_choice("views", self.views, VIEW_KINDS)

    def check(self, layout: PatchLayout, samples: int) -> None:
        """Raise ``ValueError`` where the ratio masks no patch or all, or a sample has no other to be compared with."""
        super().check(layout, samples)
        if samples < self.least_samples:
            words = f"{self.name} compares the samples of a batch: at least {self.least_samples}"
            raise invalid_value("batch_size", samples, words)

    def masking(self) -> Masking:
        """Return the masks of both views."""
        return Masking(ratio=self.mask_ratio, complementary=self.views == "complementary")
