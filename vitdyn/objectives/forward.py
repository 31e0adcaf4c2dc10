"""What an objective is given: one batch seen through a model."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitdyn._errors import invalid_value
from vitdyn.data import PatchBatch
from vitdyn.models import Correlations, Parameters, area_attention

State = Mapping[str, Tensor]
"""What an objective carries from step to step (teachers, centres, queues); a leading seed axis throughout."""


@dataclass(frozen=True)
class ForwardPass:
    """One batch seen through the model: its views, the model's outputs on each, the objective's ``state``.

    Outputs and patches are coordinates in the orthonormal basis of the features v_j of the sample's own cluster; those
    of different clusters are orthogonal; ``embeddings`` have coordinates (k, j) in all clusters' features, so that
    any two of them compare. Underneath lies the area ``attention`` of the model on each view, and
    ``attend(correlations, view)`` gives that of any other correlations (a teacher's, say), of the view ``None`` that
    of a sample without masks.
    """

    has_closed_forms: ClassVar[bool] = True
    """Whether what objectives know of their loss, beside the loss, speaks of this model."""

    batch: PatchBatch
    views: tuple[Bool[Tensor, "seed sample patch"], ...]
    attention: Sequence[Float[Tensor, "seed sample area query"]]
    state: State
    attend: Callable[[Parameters, int | None], Tensor]

    def outputs(
        self, view: int | None = 0, teacher: Parameters | None = None
    ) -> Float[Tensor, "seed sample query feature"]:
        """Return F_p = Σ_j z_j A_{p→j} v_j of the model, or of a teacher: differentiable in the model's attention.

        A teacher may see the sample without masks: ``view`` None.
        """
        return (self._attention(view, teacher) * self.batch.latents[..., None]).transpose(-1, -2)

    def mean_outputs(
        self, view: int | None = 0, teacher: Parameters | None = None
    ) -> Float[Tensor, "seed sample feature"]:
        """Return F = (1/P) Σ_p F_p, the mean of ``outputs`` over queries, without making these."""
        return self._attention(view, teacher).mean(-1) * self.batch.latents

    def embeddings(
        self, view: int | None = 0, teacher: Parameters | None = None
    ) -> Float[Tensor, "seed sample embedding"]:
        """Return ``mean_outputs`` in the features of all clusters, K · N coordinates (k, j)."""
        return self.in_all_clusters(self.mean_outputs(view, teacher))

    def patch_embeddings(
        self, view: int | None = 0, teacher: Parameters | None = None
    ) -> Float[Tensor, "seed sample query embedding"]:
        """Return ``outputs`` in the features of all clusters, K · N coordinates (k, j)."""
        return self.in_all_clusters(self.outputs(view, teacher))

    def in_all_clusters(
        self, values: Float[Tensor, "seed sample *rest feature"]
    ) -> Float[Tensor, "seed sample *rest embedding"]:
        """Place coordinates of ``outputs`` or ``patches`` where those of samples of all clusters compare."""
        return self.batch.in_all_clusters(values)

    def similarity(
        self, one: Float[Tensor, "seed sample feature"], other: Float[Tensor, "seed sample feature"]
    ) -> Float[Tensor, "seed sample sample"]:
        """Return ⟨F_b, F'_c⟩ of two sets of ``mean_outputs``; features of different clusters are orthogonal."""
        return self.batch.similarity(one, other)

    def first_view(self) -> ForwardPass:
        """Return the same forward pass as an objective of one view sees it."""
        return replace(self, views=self.views[:1], attention=self.attention[:1])

    @cached_property
    def squared_errors(self) -> Float[Tensor, "seed sample query"]:
        """‖F_p − X_p‖² = Σ_j z_j² (A_{p→j} − 1{j = a(p)})² of every query on the first view, masked or not."""
        batch = self.batch
        residual = self.attention[0] * batch.latents[..., None]
        # X_p has one coordinate alone, that of its own area
        residual.scatter_add_(2, batch.area[:, :, None], -batch.patch_latent[:, :, None])
        # fresh pages take longer than the squares; autograd needs the residual itself
        squares = residual.square() if residual.requires_grad else residual.square_()
        return squares.sum(2)

    def patches(self) -> Float[Tensor, "seed sample patch feature"]:
        """Return the patches X_p = z_{a(p)} v_{a(p)} themselves, masked or not."""
        return (self.batch.membership * self.batch.latents[..., None]).transpose(-1, -2)

    def _attention(self, view: int | None, teacher: Parameters | None) -> Tensor:
        self._require_view(view, teacher)
        return self.attention[view] if teacher is None else self.attend(teacher, view)  # type: ignore[index]

    def _require_view(self, view: int | None, teacher: Parameters | None) -> None:
        if not (view in range(len(self.views)) or (view is None and teacher is not None)):
            words = f"there are {len(self.views)}, as the view_count of the objective's class says"
            raise invalid_value("view", view, words)


Attender = Callable[[Parameters, int | None], Tensor]
"""What a batch comes to through parameters, on a view, or on all patches where that is None."""


def shown_in(views: Sequence[Tensor], view: int | None) -> Tensor:
    """Return which patches a view shows; the view None shows all."""
    return torch.ones_like(views[0]) if view is None else views[view]


def layer_attender(batch: PatchBatch, views: Sequence[Tensor]) -> Attender:
    """Return what gives the area attention of the theory's layer on a batch's views."""

    def attend(correlations: Parameters, view: int | None) -> Tensor:
        assert isinstance(correlations, Correlations)
        return area_attention(correlations, batch, shown_in(views, view))

    return attend


def kept(see: Attender) -> Attender:
    """Return the same without a gradient, made once of parameters as long as nobody writes to them or to it.

    A loss asks for its teacher's, trained parts ask through the loss once more, and a centre after the step.
    """
    made: dict[Hashable, tuple[Sequence[Tensor], Tensor, int]] = {}

    def recalled(parameters: Parameters, view: int | None) -> Tensor:
        blocks = tuple(parameters.named().values())
        key = view, *((id(block), block._version) for block in blocks)
        if key not in made or made[key][1]._version != made[key][2]:
            with torch.no_grad():
                found = see(parameters, view)
            made[key] = blocks, found, found._version  # what lives keeps its id
        return made[key][1]

    return recalled


class Lazily(Sequence[Tensor]):
    """A sequence whose items are made when they are first asked for."""

    def __init__(self, count: int, make: Callable[[int], Tensor]) -> None:
        self._count, self._make = count, make
        self._made: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[each] for each in range(self._count)[index])
        at = range(self._count)[index]
        if at not in self._made:
            self._made[at] = self._make(at)
        return self._made[at]


@contextmanager
def unchanged(method: str, forward: ForwardPass) -> Iterator[ForwardPass]:
    """Lend a forward pass to a method. Raises ``ValueError`` where it changes it in place: others read it next."""
    batch = forward.batch
    parts = {f"batch.{each.name}": getattr(batch, each.name) for each in fields(batch)}
    given = {name: part for name, part in parts.items() if isinstance(part, Tensor)}
    given |= {f"views[{index}]": view for index, view in enumerate(forward.views)}
    if isinstance(forward.attention, tuple):
        given |= {f"attention[{index}]": part for index, part in enumerate(forward.attention)}
    # torch counts what is written to a tensor in place: to compare counts costs no copy
    versions = {name: part._version for name, part in given.items()}
    # made when the method asks for it, and then unchanged so far: it is as large as attention
    membership = vars(batch).get("membership")
    versions["batch.membership"] = 0 if membership is None else membership._version
    yield forward
    if "membership" in vars(batch):
        given["batch.membership"] = batch.membership
    for name, part in given.items():
        if part._version != versions[name]:
            raise invalid_value(method, f"forward.{name} changed in place", "must copy what it changes")
