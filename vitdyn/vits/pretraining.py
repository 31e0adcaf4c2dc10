"""A frozen description of one training: images, encoder, method, schedule, seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import cos, pi

from vitdyn._errors import invalid_value, require_choice, require_integer, require_real
from vitdyn._specs import ADDED_LATER
from vitdyn.vits.augmentation import Augmentation
from vitdyn.vits.image_sets import IMAGE_SETS, Digits, ImageSet
from vitdyn.vits.methods import METHODS, Method
from vitdyn.vits.small_vit import SmallViT

UNTRAINED = "untrained"
READOUTS = ("mean", "class")
OPTIMIZERS = ("adamw", "descent")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How a trained encoder is evaluated, on ``images`` test images.

    ``top`` keys of a map count; LiDAR sees ``objects`` test images of ``views`` augmentations each; the probes take so
    many ``neighbours`` and that ridge ``penalty``.
    """

    images: int = 256
    top: int = 4
    objects: int = 100
    views: int = 16
    neighbours: int = 5
    penalty: float = 0.01

    def __post_init__(self) -> None:
        for name, low in {"images": 2, "top": 1, "objects": 2, "views": 10, "neighbours": 1}.items():
            require_integer(name, getattr(self, name), at_least=low)
        require_real("penalty", self.penalty, low=0, high=1e12)


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """One encoder trained by one method from one seed, then evaluated: what decides its numbers.

    ``method`` is one of ``METHODS`` with its hyperparameters, or None: an untrained encoder, of no step. ``readout``
    is what stands for an image where a method or a label needs one vector: the mean of its patches' tokens, or the
    class token. ``optimizer`` is AdamW (0.9, 0.95), or plain gradient descent ("descent"). The rate η rises over the
    share ``warmup`` of the steps and falls to 0 by a cosine; matrices alone decay, by ``weight_decay`` η of themselves.

    >>> from vitdyn.vits.methods import Contrast
    >>> Pretraining(method=Contrast(temperature=0.1), steps=200).method_name
    'contrast'
    """

    method: Method | None
    images: ImageSet = field(default_factory=Digits)
    vit: SmallViT = field(default_factory=SmallViT)
    augmentation: Augmentation = field(default_factory=Augmentation)
    evaluation: Evaluation = field(default_factory=Evaluation)
    steps: int = 300
    batch_size: int = 32
    learning_rate: float = 6e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    readout: str = "mean"
    seed: int = 0
    optimizer: str = field(default="adamw", metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        require_choice("readout", self.readout, READOUTS)
        require_choice("optimizer", self.optimizer, OPTIMIZERS)
        if not isinstance(self.method, Method | None):
            names = ", ".join(kind.__name__ for kind in METHODS.values())
            raise invalid_value("method", self.method, f"must be None or one of {names}, as an object")
        for name, kinds in _PARTS.items():
            if not isinstance(getattr(self, name), kinds):
                raise invalid_value(
                    name, getattr(self, name), f"must be a {' or '.join(k.__name__ for k in kinds)}"
                )
        for name, low in {"steps": 0, "batch_size": 2, "seed": 0}.items():
            require_integer(name, getattr(self, name), at_least=low)
        # an untrained encoder is one of no steps, so that it has one key and not many
        if (self.method is None) != (self.steps == 0):
            raise invalid_value("steps", self.steps, "must be 0 without a method, and 1 or more with one")
        require_real("learning_rate", self.learning_rate, low=0, high=10)
        for name in ("weight_decay", "warmup"):
            require_real(name, getattr(self, name), low=0, high=1)
        if self.method is None:
            self.vit.grid(self.images.side)
        else:
            self.method.check(self.vit, self.images.side)

    @property
    def method_name(self) -> str:
        """The method's name, "untrained" where there is none."""
        return UNTRAINED if self.method is None else self.method.name

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        # linear to the full rate, then half a cosine down to 0
        rising = self.warmup * self.steps
        if step < rising:
            return self.learning_rate * (step + 1) / (rising + 1)
        share = (step - rising) / max(self.steps - rising, 1)
        return self.learning_rate * 0.5 * (1 + cos(pi * share))

    @classmethod
    def kinds(cls) -> tuple[type, ...]:
        """Return the classes that a specification is made of."""
        return (cls, *METHODS.values(), *(kind for kinds in _PARTS.values() for kind in kinds))


_PARTS: dict[str, tuple[type, ...]] = {
    "images": IMAGE_SETS,
    "vit": (SmallViT,),
    "augmentation": (Augmentation,),
    "evaluation": (Evaluation,),
}
