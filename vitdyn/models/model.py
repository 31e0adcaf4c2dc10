"""What is trained, as a seam: parameters, outputs, attention maps, and which closed forms speak of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value
from vitdyn._registry import hyphened
from vitdyn.data import PatchBatch, PatchGenerator
from vitdyn.kernels import Parameters
from vitdyn.seeds import Streams

AREA_ATTENTION = "area attention"
ATTENTION_MAPS = "attention maps"
CORRELATIONS = "correlations"
CONTENT_QUERIES = "content queries"
STREAMS = "streams"
CLOSED_FORMS = "closed forms"
OFFERS = AREA_ATTENTION, ATTENTION_MAPS, CORRELATIONS, CONTENT_QUERIES, STREAMS, CLOSED_FORMS


@dataclass(frozen=True, kw_only=True)
class Model(ABC):
    """A model on patch data: a frozen dataclass whose fields are its architecture.

    A subclass gives ``initial`` and ``outputs``; ``attention_maps`` too where it has any, or ``area_attention`` alone.
    Training differentiates the outputs by autograd, all seeds in one batch. ``layers`` and ``heads`` are the axes of
    its maps. ``name``, that of the class in small letters unless it is given, is what the command line calls it once it
    is registered.

    ``offers`` says what else there is of it: "area attention", "attention maps" and "streams" (what each layer hands
    on), as far as the class defines them; "correlations", where its parameters hold the blocks Φ and Υ that the
    standard record summarises (a class of your own that has them says so), and "content queries", Ψ and Ξ; "closed
    forms": the gradients, lower bounds and reductions that objectives know. These speak of the theory's layer alone,
    and no subclass inherits them.

    Here every patch is reconstructed by one trained mixture of the visible ones, the same in all samples:

    >>> import torch
    >>> class Mixing(vd.Model):
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
    >>> Mixing.name, sorted(Mixing.offers)
    ('mixing', [])
    """

    name: ClassVar[str]
    offers: ClassVar[frozenset[str]] = frozenset()
    layers, heads = 1, 1

    def __init_subclass__(cls, *, has_closed_forms: bool = False) -> None:
        super().__init_subclass__()
        own, offered = vars(cls), {*cls.offers} - {CLOSED_FORMS}
        if "name" not in own:
            cls.name = hyphened(cls.__name__)
        # what a parent has is not of the attention and the outputs that are the class's own
        if "area_attention" in own:
            offered = (offered | {AREA_ATTENTION}) - {ATTENTION_MAPS}
        if "attention_maps" in own:
            offered |= {AREA_ATTENTION, ATTENTION_MAPS}
            if "area_attention" not in own:
                cls.area_attention = Model.area_attention  # type: ignore[method-assign]
        if "outputs" in own:
            offered -= {STREAMS}
        if "streams" in own:
            offered |= {STREAMS}
        cls.offers = frozenset(offered | ({CLOSED_FORMS} if has_closed_forms else set()))

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

        A seed's are made of its own parameters and samples, the same at each call, and nothing given is changed.
        ``visible`` (seed, sample, patch) is true where a patch is shown. What no model may look at is up to the model:
        contents of masked patches are in the batch too. Further coordinates, of positions, may follow the first F;
        objectives do not read them.
        """

    def attention_maps(
        self, parameters: Parameters, batch: PatchBatch, visible: Tensor
    ) -> Float[Tensor, "seed sample layer head query key"]:
        """Return whole attention maps; rows are distributions over keys. Memory: P² numbers a map."""
        words = f"has no attention: give {type(self).__name__}.attention_maps, or area_attention alone"
        raise invalid_value("model", self, words)

    def area_attention(
        self, parameters: Parameters, batch: PatchBatch, visible: Tensor
    ) -> Float[Tensor, "seed sample area query"]:
        """Return A_{p→j}, attention to the visible patches of each area: of the last layer's maps, mean over heads."""
        maps = self.attention_maps(parameters, batch, visible)
        return area_attention_of(maps[:, :, -1].mean(2), batch, visible)

    def streams(
        self, parameters: Parameters, batch: PatchBatch, visible: Tensor
    ) -> Float[Tensor, "seed sample layer query coordinate"]:
        """Return what each layer hands to the next, the last one's outputs included, in coordinates of the model's."""
        raise invalid_value("model", self, f"has no streams: give {type(self).__name__}.streams")

    def check(self, generator: PatchGenerator) -> None:  # noqa: B027  (most models can be made for any data)
        """Raise ``ValueError`` where the model cannot be made for such data."""

    def stored_numbers(self, patches: int, features: int, samples: int, views: int = 1) -> int:
        """Return about how many numbers a seed keeps for the gradient of so many views, or, of none, for all maps.

        Patches have F = ``features`` coordinates.
        """
        return (2 + 2 * views) * samples * patches * max(patches, features)

    def describe(self) -> str:
        """Return what the model is, in a few words: its name, and the fields that are not at their defaults."""
        told = ((each, getattr(self, each.name)) for each in fields(self))
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
