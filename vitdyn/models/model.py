"""What is trained, as a seam: parameters, outputs, attention maps, and which closed forms speak of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import fields, is_dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value
from vitdyn.data import PatchBatch, PatchGenerator, PatchLayout
from vitdyn.kernels import Parameters
from vitdyn.seeds import Streams

ATTENTION_MAPS = "attention maps"
CORRELATIONS = "correlations"
CONTENT_QUERIES = "content queries"
CLOSED_FORMS = "closed forms"
STREAMS = "streams"


class Model(ABC):
    """A model on patch data: a frozen dataclass whose fields are its architecture.

    A subclass gives ``initial`` and ``outputs``; ``attention_maps`` too where it has any.
    ``offers`` says what else there is of it: "attention maps"; "streams", what each layer hands on; "correlations", the
    blocks Φ and Υ that the standard record summarises, and "content queries", Ψ and Ξ; "closed forms": the gradients,
    lower bounds and reductions that objectives know, which speak of the theory's layer. Training differentiates the
    outputs of any other model by autograd, all seeds in one batch.

    ``layers`` and ``heads`` are the axes of its maps. ``name`` is what the command line and JSON call it
    once it is registered.

    Here every patch is reconstructed by one trained mixture of the visible ones, the same in all samples:

    >>> import torch
    >>> class Mixing(vd.Model):
    ...     name = "mixing"
    ...     def initial(self, generator, streams, like):
    ...         patches = generator.layout.patches
    ...         return vd.Parameters(weights=like.new_zeros(len(streams.seeds), patches, patches))
    ...     def outputs(self, parameters, batch, visible):
    ...         shown = batch.contents() * visible[..., None]
    ...         return torch.softmax(parameters.weights, -1)[:, None] @ shown
    >>> generator = vd.PatchGenerator(layout=vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5))
    >>> training = vd.Training(
    ...     generator=generator, objective=vd.MaskedReconstruction(), model=Mixing(), steps=9, seeds=2
    ... )
    >>> loss = vd.simulate(training)["loss"]
    >>> bool((loss[-1] < loss[0]).all())
    True
    """

    name: ClassVar[str]
    offers: ClassVar[frozenset[str]] = frozenset()
    layers: int = 1
    heads: int = 1

    @abstractmethod
    def initial(self, generator: PatchGenerator, streams: Streams, like: Tensor) -> Parameters:
        """Return the parameters before the first step, with a leading axis of ``streams.seeds``.

        What is random in them comes from ``streams``, one of numpy's generators for each seed (``streams.each()``);
        ``.to(like)`` gives a tensor the run's precision and device.
        """

    @abstractmethod
    def outputs(
        self, parameters: Parameters, batch: PatchBatch, visible: Tensor
    ) -> Float[Tensor, "seed sample query feature"]:
        """Return F_p of every patch, in the coordinates of ``batch.contents()``; differentiable in the parameters.

        ``visible`` (seed, sample, patch) is true where a patch is shown. What no model may look at is up to the model:
        contents of masked patches are in the batch too. Further coordinates, of positions, may follow the first F;
        objectives do not read them.
        """

    def attention_maps(
        self, parameters: Parameters, batch: PatchBatch, visible: Tensor
    ) -> Float[Tensor, "seed sample layer head query key"]:
        """Return whole attention maps; rows are distributions over keys. Memory: P² numbers a map."""
        raise invalid_value(
            "model", self, f"has no attention maps: give {type(self).__name__}.attention_maps"
        )

    def streams(
        self, parameters: Parameters, batch: PatchBatch, visible: Tensor
    ) -> Float[Tensor, "seed sample layer query coordinate"]:
        """Return what each layer hands to the next, the last one's outputs included, in coordinates of the model's."""
        raise invalid_value("model", self, f"has no streams: give {type(self).__name__}.streams")

    def check(self, generator: PatchGenerator) -> None:  # noqa: B027  (most models can be made for any data)
        """Raise ``ValueError`` where the model cannot be made for such data."""

    def stored_numbers(self, layout: PatchLayout, samples: int) -> int:
        """Return about how many numbers a seed keeps for the gradient of one view of so many samples."""
        return 4 * samples * layout.patches**2

    def describe(self) -> str:
        """Return what the model is, in a few words: its name, and the fields that are not at their defaults."""
        own: Any = self
        told = ((each, getattr(self, each.name)) for each in (fields(own) if is_dataclass(own) else ()))
        return ", ".join(
            [self.name, *(f"{each.name}={value!r}" for each, value in told if value != each.default)]
        )


def area_attention_of(
    maps: Float[Tensor, "seed sample *rest query key"], batch: PatchBatch, visible: Tensor
) -> Float[Tensor, "seed sample *rest area query"]:
    """Return A_{p→j} = Σ_{q visible, in area j} attn_{p→q}."""
    member = (batch.membership * visible[:, :, None].to(maps)).to(maps)
    between = [1] * (maps.ndim - 4)
    return member.reshape(*member.shape[:2], *between, *member.shape[2:]) @ maps.mT
