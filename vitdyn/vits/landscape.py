"""A frozen description of a survey: the loss of a small Vision Transformer about its weights, along a training."""

from __future__ import annotations

from dataclasses import dataclass, field

from vitdyn._errors import invalid_value, require_choice, require_integer, require_kind
from vitdyn.observables.schedule import Schedule
from vitdyn.vits.pretraining import Pretraining

LOSSES = ("pretraining", "probe")


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """The landscape of a loss along one training: what is measured about the weights at each step of ``schedule``.

    ``loss`` is that of the training's method ("pretraining") or of a linear classifier of the encoder's features
    ("probe", fitted anew at each frame; see ``probe_surface``), on ``images`` training images that stay, with masks and
    views that stay.

    >>> from vitdyn.vits.methods import Reconstruction
    >>> training = Pretraining(method=Reconstruction(), steps=200)
    >>> Landscape(training=training, schedule=vd.Schedule(frames=3, spacing="linear")).steps
    (0, 100, 200)
    """

    training: Pretraining
    schedule: Schedule = field(default_factory=lambda: Schedule(frames=5, spacing="linear"))
    loss: str = "pretraining"
    images: int = 64

    def __post_init__(self) -> None:
        require_kind("training", self.training, Pretraining)
        require_kind("schedule", self.schedule, Schedule)
        require_choice("loss", self.loss, LOSSES)
        require_integer("images", self.images, at_least=2)
        if self.loss == "pretraining" and self.training.method is None:
            words = "must be 'probe': an untrained encoder has no loss of its own"
            raise invalid_value("loss", self.loss, words)
        # refused now and not when the training is done
        assert self.steps

    @property
    def steps(self) -> tuple[int, ...]:
        """After how many steps of the training the landscape is measured, 0 and the end included."""
        return self.schedule.recorded_steps(self.training.steps)

    @classmethod
    def kinds(cls) -> tuple[type, ...]:
        """Return the classes that a specification is made of."""
        return (cls, Schedule, *Pretraining.kinds())
