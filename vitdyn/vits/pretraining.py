"""A frozen description of one training: images, encoder, method, schedule, seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import cos, pi

from vitdyn._errors import invalid_value, require_choice, require_integer, require_real
from vitdyn.vits.augmentation import Augmentation
from vitdyn.vits.image_sets import IMAGE_SETS, Digits, ImageSet
from vitdyn.vits.small_vit import SmallViT

METHODS = ("untrained", "reconstruction", "contrast", "mixture", "supervised")
READOUTS = ("mean", "class")


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

    Methods:
    - "reconstruction" of the share ``mask`` of patches that is masked (MAE), from plain images;
    - "contrast" of two augmented views (MoCo v3), keys from a moving average that keeps the share m_t of itself,
      m_t = 1 − (1 − m)(1 + cos(πt/T))/2 with m = ``momentum``;
    - "mixture", (1 − ``weight``) · reconstruction + ``weight`` · contrast on one encoder;
    - "supervised", labels of one augmented view; "untrained", no step.

    ``readout`` is what contrast and labels are read from: the mean of the patches' tokens, or the class token. Where
    there is contrast the random projection of patches stays as it is drawn. AdamW (0.9, 0.95): the rate rises over the
    share ``warmup`` of the steps and falls to 0 by a cosine; only matrices decay.

    """

    method: str
    images: ImageSet = field(default_factory=Digits)
    vit: SmallViT = field(default_factory=SmallViT)
    augmentation: Augmentation = field(default_factory=Augmentation)
    evaluation: Evaluation = field(default_factory=Evaluation)
    steps: int = 300
    batch_size: int = 32
    learning_rate: float = 6e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    mask: float = 0.5
    normalised_targets: bool = False
    temperature: float = 0.2
    momentum: float = 0.9
    projection: int = 64
    weight: float = 0.2
    readout: str = "mean"
    seed: int = 0

    def __post_init__(self) -> None:
        require_choice("method", self.method, METHODS)
        require_choice("readout", self.readout, READOUTS)
        for name, kinds in _PARTS.items():
            if not isinstance(getattr(self, name), kinds):
                raise invalid_value(
                    name, getattr(self, name), f"must be a {' or '.join(k.__name__ for k in kinds)}"
                )
        least = {"steps": 0, "batch_size": 2, "projection": 1, "seed": 0}
        for name, low in least.items():
            require_integer(name, getattr(self, name), at_least=low)
        # an untrained encoder is one of no steps, so that it has one key and not many
        if (self.method == "untrained") != (self.steps == 0):
            raise invalid_value(
                "steps", self.steps, "must be 0 for the method untrained, and 1 or more for the others"
            )
        require_real("learning_rate", self.learning_rate, low=0, high=10)
        for name in ("weight_decay", "warmup", "momentum", "weight"):
            require_real(name, getattr(self, name), low=0, high=1)
        require_real("temperature", self.temperature, low=1e-3, high=100)
        self._require_mask()

    def _require_mask(self) -> None:
        if not isinstance(self.normalised_targets, bool):
            raise invalid_value("normalised_targets", self.normalised_targets, "must be True or False")
        require_real("mask", self.mask, low=0, high=1, open_low=True, open_high=True)
        # MAE rounds the number of visible patches down; both parts must be left with one
        patches = self.vit.grid(self.images.side) ** 2
        if not 0 < int(patches * (1 - self.mask)) < patches:
            raise invalid_value(
                "mask", self.mask, f"must mask at least one of {patches} patches and leave one"
            )

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        # linear to the full rate, then half a cosine down to 0
        rising = self.warmup * self.steps
        if step < rising:
            return self.learning_rate * (step + 1) / (rising + 1)
        share = (step - rising) / max(self.steps - rising, 1)
        return self.learning_rate * 0.5 * (1 + cos(pi * share))

    def momentum_at(self, step: int) -> float:
        """Return how much of the moving average a step keeps."""
        return 1 - (1 - self.momentum) * 0.5 * (1 + cos(pi * step / self.steps))

    @classmethod
    def kinds(cls) -> tuple[type, ...]:
        """Return the classes that a specification is made of."""
        return (cls, *(kind for kinds in _PARTS.values() for kind in kinds))


_PARTS: dict[str, tuple[type, ...]] = {
    "images": IMAGE_SETS,
    "vit": (SmallViT,),
    "augmentation": (Augmentation,),
    "evaluation": (Evaluation,),
}
