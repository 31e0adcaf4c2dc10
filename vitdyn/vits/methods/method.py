"""What a method of training is, and the heads that several of them add."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from vitdyn._errors import require_integer, require_real
from vitdyn.vits.image_sets import ImageSet
from vitdyn.vits.learner import Batch, Learner
from vitdyn.vits.small_vit import SmallViT


class Work(NamedTuple):
    """What a step costs: multiplications of one image, blocks that are run, views that are drawn."""

    products: int
    blocks: int
    views: int


# a hyperparameter of one name has one range, whatever the method
_SHARE: dict[str, Any] = {"low": 0, "high": 1}
_TEMPERATURE: dict[str, Any] = {"low": 1e-3, "high": 100}
_ANY: dict[str, Any] = {"low": 0, "high": 1e6}
_REAL = {
    **dict.fromkeys(("temperature", "student_temperature", "teacher_temperature"), _TEMPERATURE),
    **dict.fromkeys(("momentum", "centre_momentum", "weight"), _SHARE),
    **dict.fromkeys(("invariance", "variance", "covariance", "beta", "consistency"), _ANY),
    "mask": {**_SHARE, "open_low": True, "open_high": True},
}
_WHOLE = {"projection": 1, "blocks": 1, "prototypes": 2}


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """How an encoder is trained: the heads that are added to it, which of them a teacher has too, and the loss.

    A method is a frozen dataclass, its fields its hyperparameters, in a file of its own; ``METHODS`` lists it by
    ``name``. Fields of known names are held to their ranges. ``view_count`` augmented views are drawn of each image
    (0: it is seen as it is).
    """

    name: ClassVar[str]
    reads: ClassVar[str]
    """What the loss is of: "patches" one by one, one vector of the "image", or "both"."""
    view_count: ClassVar[int] = 2
    taught: ClassVar[tuple[str, ...] | None] = None
    """Heads that the teacher has besides an encoder; None where there is no teacher."""
    freezes_patches: ClassVar[bool] = False
    """Whether the random projection of patches stays as it is drawn."""
    spec_kind: ClassVar[str]

    def __init_subclass__(cls) -> None:
        # in JSON: objectives of the theory's layer go by the same names
        cls.spec_kind = f"methods.{cls.__name__}"

    def __post_init__(self) -> None:
        for name, bounds in _REAL.items():
            if hasattr(self, name):
                require_real(name, getattr(self, name), **bounds)
        for name, least in _WHOLE.items():
            if hasattr(self, name):
                require_integer(name, getattr(self, name), at_least=least)

    def check(self, vit: SmallViT, side: int) -> None:
        """Raise ``ValueError`` where the method cannot train this encoder on images of ``side`` pixels."""
        vit.grid(side)

    @abstractmethod
    def heads(self, vit: SmallViT, images: ImageSet, seed: int) -> dict[str, nn.Module]:
        """Return what is trained beside the encoder; torch's own layers draw from a generator that is seeded."""

    @abstractmethod
    def loss(self, learner: Learner, batch: Batch) -> Float[Tensor, ""]:
        """Return the loss of a step."""

    def work(self, vit: SmallViT, side: int) -> Work:
        """Return what a step costs: backward through a block takes twice as long as forward."""
        shape, passes = vit.encoder(side), 1 + (self.taught is not None)
        products = (2 + passes) * max(self.view_count, 1) * shape.products(shape.tokens)
        return Work(products, passes * shape.depth, self.view_count)


def mlp_head(*widths: int, normed: bool) -> nn.Sequential:
    """Return linear maps without offsets, each but the last followed by a batch norm and a ReLU.

    The last is followed by a batch norm without gain and offset where ``normed``, as MoCo v3 has it.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths[:-1]):
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
    layers.append(nn.Linear(widths[-2], widths[-1], bias=False))
    return nn.Sequential(*layers, *([nn.BatchNorm1d(widths[-1], affine=False)] if normed else []))
