"""Directions in which a surface is cut: random, of the length of the weights' filters, principal along training."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitdyn._errors import invalid_value, require_boolean, require_choice, require_integer, require_kind
from vitdyn.landscape.surface import Surface, Vector
from vitdyn.seeds import stream

CONVENTIONS = ("goldstein", "how-do-vits-work", "layer")
ONE_DIMENSIONAL = ("zero", "weight", "scaled")
PROJECTIONS = ("least-squares", "orthogonal", "cosine")


def gaussian_direction(surface: Surface, seed: int, index: int = 0) -> Vector:
    """Draw a direction of independent standard normal numbers, the ``index``-th of a seed.

    Each tensor has a stream of its own, of seed, index and the tensor's name: it draws the same whatever others there
    are.

    >>> import torch
    >>> small = vd.landscape.Surface(lambda at: at["w"].sum(), {"w": torch.zeros(2)})
    >>> both = {"b": torch.zeros(3), "w": torch.zeros(2)}
    >>> large = vd.landscape.Surface(lambda at: at["w"].sum() + at["b"].sum(), both)
    >>> drawn = vd.landscape.gaussian_direction(large, seed=1)
    >>> torch.equal(large.tensors(drawn)["w"], vd.landscape.gaussian_direction(small, seed=1))
    True
    """
    require_kind("surface", surface, Surface)
    require_integer("index", index, at_least=0)
    drawn = {}
    for name, like in surface.parameters.items():
        # streams of two steps never meet, and 64 bits of a name are as good as a number for it
        place = int.from_bytes(blake2b(f"{index} {name}".encode(), digest_size=8).digest(), "little")
        numbers = stream(seed, "directions", place).standard_normal(like.shape)
        drawn[name] = torch.from_numpy(np.asarray(numbers)).to(like)
    return surface.vector(drawn)


def normalised(
    surface: Surface, direction: Vector, by: str = "goldstein", *, one_dimensional: str = "zero"
) -> Vector:
    """Return a direction, each filter of which has been given the length of that filter of the weights.

        d_i ← d_i ‖w_i‖ / ‖d_i‖

    ``by`` says what a filter is. "goldstein": a slice along the first axis, all weights of one output (Li et al. 2018,
    arXiv 1712.09913). "how-do-vits-work": a line along the first axis, all weights of one input, over which the code of
    Park and Kim (2022, arXiv 2202.06709) takes the norm. "layer": the whole tensor. A ViT's position codes or class
    token, a tensor of shape (1, tokens, width), is one filter to "goldstein"; to "how-do-vits-work" each of its numbers
    is one, which makes |w| sign(d) of it. The small numbers that both works add to ‖d_i‖ are left out.

    What becomes of tensors of fewer than two axes (biases, gains of norms) is ``one_dimensional``. "zero": they stay as
    they are. "weight": d = w, the default of the code of Li et al.; two directions then share that part. "scaled": each
    tensor is one filter.

    A filter in which the direction is 0 stays 0. Raises ``ValueError`` where a filter of the weights is 0 and that of
    the direction is not: nothing gives it a length. So it is with the theory's layer at Q = 0.

    >>> import torch
    >>> weights = {"w": torch.tensor([[3.0, 4.0], [0.0, 2.0]]), "b": torch.ones(2)}
    >>> surface = vd.landscape.Surface(lambda at: at["w"].sum() + at["b"].sum(), weights)
    >>> vd.landscape.normalised(surface, torch.ones(6))
    tensor([3.5355, 3.5355, 1.4142, 1.4142, 0.0000, 0.0000])
    """
    require_choice("by", by, CONVENTIONS)
    require_choice("one_dimensional", one_dimensional, ONE_DIMENSIONAL)
    found = surface.tensors(checked_direction(surface, direction))
    for name, weight in surface.parameters.items():
        if weight.ndim > 1 or one_dimensional == "scaled":
            found[name] = _of_length(name, weight, found[name], by)
        else:
            found[name] = weight if one_dimensional == "weight" else torch.zeros_like(weight)
    return surface.vector(found)


def filter_norms(tensor: Tensor, by: str) -> Tensor:
    """Return the norm of the filter that each entry is in, of a shape that broadcasts with the tensor's.

    A tensor of fewer than two axes is one filter.
    """
    axes = tuple(range(tensor.ndim))
    if tensor.ndim > 1 and by != "layer":
        axes = axes[1:] if by == "goldstein" else axes[:1]
    return torch.linalg.vector_norm(tensor, dim=axes, keepdim=True) if axes else tensor.abs()


def checked_direction(surface: Surface, direction: Vector, field: str = "direction") -> Vector:
    """Return a direction in a surface's precision and on its device.

    Raises ``ValueError`` unless it has a number for each of the parameters', all of them finite.
    """
    require_kind("surface", surface, Surface)
    require_kind(field, direction, Tensor)
    for name, part in surface.tensors(direction).items():
        finite = part.isfinite()
        if not finite.all():
            filters = finite.reshape(len(part), -1).all(1) if part.ndim > 1 else finite.all()
            where = _place(f"{field}, parameter {name!r}", ~filters)
            raise invalid_value(where, part[~finite][0].item(), "must be finite: draw or compute it anew")
    return direction.detach().to(surface.point)


class PrincipalDirections(NamedTuple):
    """Orthonormal directions by falling variance, and the share of the variance that each explains."""

    directions: Float[Tensor, "direction parameter"]
    shares: Float[Tensor, " direction"]


def principal_directions(
    points: Sequence[Vector], count: int = 2, *, centred: bool = True
) -> PrincipalDirections:
    """Return the principal directions of a trajectory, whose last point is the final one.

    Rows are θ_t − θ_final, that of the final point, 0, among them. ``centred`` subtracts their mean, as the code of Li
    et al. (2018) does by way of a library; without it variance is that about the final point. Of the two signs of a
    direction it is the one that makes its largest number positive.

    Raises ``ValueError`` where the points span fewer directions.

    >>> import torch
    >>> path = torch.tensor([[3.0, 1.0, 0.0], [1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [-3.0, 1.0, 0.0]])
    >>> vd.landscape.principal_directions(path, 2).shares
    tensor([0.9524, 0.0476])
    """
    require_boolean("centred", centred)
    rows = _rows("points", points)
    rows = rows - rows[-1]
    rows = rows - rows.mean(0) if centred else rows
    _, sizes, directions = torch.linalg.svd(rows, full_matrices=False)
    round_off = max(rows.shape) * torch.finfo(rows.dtype).eps * sizes[0]
    require_integer("count", count, at_least=1)
    if count > (rank := int((sizes > round_off).sum())):
        raise invalid_value("count", count, f"the points span {rank} directions: ask for no more")
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))
    shares = sizes.square() / sizes.square().sum()
    return PrincipalDirections((directions * largest.sign())[:count], shares[:count])


def orthogonalised(directions: Sequence[Vector]) -> Float[Tensor, "direction parameter"]:
    """Return directions, from each of which its parts along those before it have been taken.

    A direction keeps the length that it had. Filters of normalised directions do not keep theirs exactly. Raises
    ``ValueError`` where a direction is a combination of those before.

    >>> import torch
    >>> vd.landscape.orthogonalised([torch.tensor([2.0, 0.0]), torch.tensor([3.0, 4.0])])
    tensor([[2., 0.],
            [0., 5.]])
    """
    rows = _rows("directions", directions)
    found = torch.empty_like(rows)
    for index, row in enumerate(rows):
        unit, length = row, torch.linalg.vector_norm(row)
        before = found[:index] / torch.linalg.vector_norm(found[:index], dim=1, keepdim=True)
        for _ in range(2):  # once leaves the round-off of nearly parallel directions
            unit = unit - before.T @ (before @ unit)
        left = torch.linalg.vector_norm(unit)
        if not left > 1e3 * torch.finfo(rows.dtype).eps * length:
            words = "must be independent of those before: draw it with another seed"
            raise invalid_value(f"directions[{index}]", "0 or a combination of others", words)
        found[index] = unit * (length / left)
    return found


def projected(
    points: Sequence[Vector], surface: Surface, directions: Sequence[Vector], by: str = "least-squares"
) -> Float[Tensor, "point direction"]:
    """Return the coordinates of points in the plane, or on the line, that directions span from a surface's point.

    "least-squares": the coordinates of the nearest point of the plane, as multiples of the directions, as in a section.
    "orthogonal": ⟨θ − θ_0, d⟩ / ‖d‖² for each direction, the same where directions are orthogonal. "cosine":
    ⟨θ − θ_0, d⟩ / ‖d‖, a length and no multiple of d, as the code of Li et al. (2018) has it for unit directions.

    The section's value at a projected point is not the loss of the point.
    """
    require_kind("surface", surface, Surface)
    require_choice("by", by, PROJECTIONS)
    axes = _rows("directions", [checked_direction(surface, each) for each in directions])
    apart = _rows("points", points).to(axes) - surface.point
    products, lengths = apart @ axes.T, torch.linalg.vector_norm(axes, dim=1)
    if not (lengths > 0).all():
        raise invalid_value("directions", "0", "must not be zero")
    if by == "least-squares":
        return torch.linalg.lstsq(axes.T, apart.T).solution.T
    return products / (lengths if by == "cosine" else lengths.square())


def _of_length(name: str, weight: Tensor, direction: Tensor, by: str) -> Tensor:
    lengths, own = filter_norms(weight, by), filter_norms(direction, by)
    if (lacking := (lengths == 0) & (own > 0)).any():
        words = "has no length to give to a direction: take the direction as it is, or make it 0 there"
        raise invalid_value(_place(f"parameters[{name!r}]", lacking), 0.0, words)
    return torch.where(own > 0, direction * (lengths / own), 0.0)


def _place(name: str, filters: Bool[Tensor, "*filter"]) -> str:
    """Return the name of a tensor and the number of the first filter that is meant, if it has several."""
    return f"{name}, filter {int(filters.flatten().int().argmax())}" if filters.numel() > 1 else name


def _rows(field: str, vectors: Sequence[Vector]) -> Float[Tensor, "row parameter"]:
    """Return vectors as rows of finite numbers."""
    rows = list(vectors)
    if not rows or any(not isinstance(row, Tensor) or row.ndim != 1 for row in rows):
        raise invalid_value(field, vectors, "must hold vectors of parameters, one or more")
    if len({len(row) for row in rows}) > 1:
        raise invalid_value(field, sorted({len(row) for row in rows}), "must have as many numbers each")
    for index, row in enumerate(rows):
        if not row.isfinite().all():
            raise invalid_value(f"{field}[{index}]", "not finite", "must hold finite numbers")
    return torch.stack(rows).detach()
