"""Which patch lies in which area: one partition of the positions for each cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
from jaxtyping import Int

from vitdyn._errors import invalid_value, require_choice, require_integer, require_sequence
from vitdyn._memory import MOST_POSITIONS
from vitdyn.data.curve import grid_curve
from vitdyn.data.exponents import MeasuredExponents, checked_exponents, checked_pair, require_exponents
from vitdyn.data.label_images import areas_by_size, label_images, majority_labels
from vitdyn.seeds import stream

ARRANGEMENTS = ("scattered", "contiguous")


@dataclass(frozen=True, kw_only=True, repr=False)
class PatchLayout(MeasuredExponents):
    """The partition of P positions into areas, for each of K clusters.

    ``partition[k][p]`` is the area index of position p in cluster k. Index 0 is the *global* area
    (the literature's area 1), the others are *local*. ``grid`` gives (rows, columns) where the positions
    are the cells of a grid, row by row. ``exponents`` keeps (κ_c, κ_s) where the layout was made from them.

    Derived: C_1 = size of the global area, C_s = mean size of the local areas, N = number of areas,
    κ_c = log C_1 / log P, κ_s = log C_s / log P and the information gap Δ = (1 − κ_s) − 2(1 − κ_c).
    Sizes are means over the clusters where these differ.

    >>> layout = vd.PatchLayout.from_exponents(256, kappa_c=0.9, kappa_s=0.4, clusters=2)
    >>> int(layout.sizes[0].max()), round(layout.information_gap, 3)
    (147, 0.4)
    """

    partition: tuple[tuple[int, ...], ...]
    grid: tuple[int, int] | None = None
    exponents: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        require_sequence("partition", self.partition, "clusters, each a sequence of area indices")
        if not len(self.partition):
            raise invalid_value("partition", self.partition, "must hold at least one cluster")
        rows = tuple(_area_indices(f"partition[{index}]", row) for index, row in enumerate(self.partition))
        object.__setattr__(self, "partition", rows)
        patches = len(rows[0])
        for cluster, areas in enumerate(rows):
            field, present = f"partition[{cluster}]", sorted(set(areas))
            if len(areas) != patches:
                raise invalid_value(
                    field, len(areas), f"must give an area to each of the {patches} positions"
                )
            if len(present) < 2:
                raise invalid_value(field, present, "must have at least two areas: one global, one local")
            if present != list(range(len(present))):
                raise invalid_value(
                    field, present, f"area indices must be 0..{len(present) - 1}, none left out"
                )
        object.__setattr__(self, "grid", _checked_grid(self.grid, patches))
        object.__setattr__(self, "exponents", checked_exponents(self.exponents))

    def __repr__(self) -> str:
        return f"<PatchLayout {self.describe()}>"

    @classmethod
    def from_exponents(
        cls,
        patches: int,
        kappa_c: float,
        kappa_s: float,
        *,
        clusters: int = 1,
        arrangement: str = "scattered",
        grid: tuple[int, int] | None = None,
        global_fraction: float = 0.5,
        seed: int = 0,
    ) -> PatchLayout:
        """Build a layout with C_1 ≈ P^κ_c and N − 1 ≈ (P − C_1)/C_s local areas of C_s ≈ P^κ_s patches.

        The sizes of the local areas differ by at most one. κ_c = 1 means C_1 = ``global_fraction`` · P.
        Raises ``ValueError`` for exponents out of range or P too small for them.
        """
        require_integer("patches", patches, at_least=2)
        require_integer("clusters", clusters, at_least=1)
        _require_room(patches, clusters)
        require_exponents(kappa_c, kappa_s, global_fraction)
        areas = _areas_from_exponents(patches, kappa_c, kappa_s, global_fraction)
        if areas is None:
            # the remedy names a P that works: the least power of two
            enough = next(
                count
                for power in range(2, 1000)
                if _areas_from_exponents(count := 2**power, kappa_c, kappa_s, global_fraction)
            )
            raise invalid_value(
                "patches",
                patches,
                f"too few for kappa_c = {kappa_c:g}, kappa_s = {kappa_s:g}, which need a global area no smaller "
                f"than a local one and room for at least one local area: {enough} are enough",
            )
        rest, count = patches - areas[0], areas[1]
        sizes = [areas[0]] + [rest // count + (index < rest % count) for index in range(count)]
        made = cls.from_sizes(sizes, clusters=clusters, arrangement=arrangement, grid=grid, seed=seed)
        return cls(partition=made.partition, grid=made.grid, exponents=(float(kappa_c), float(kappa_s)))

    @classmethod
    def from_sizes(
        cls,
        sizes: Sequence[int] | Sequence[Sequence[int]],
        *,
        patches: int | None = None,
        clusters: int = 1,
        arrangement: str = "scattered",
        grid: tuple[int, int] | None = None,
        seed: int = 0,
    ) -> PatchLayout:
        """Build a layout from area sizes, the global area first; one list, or one list for each cluster.

        ``scattered`` draws each cluster's positions at random; ``contiguous`` cuts a space-filling curve
        through the grid, so every area is connected (without a grid: intervals of the positions on a circle; from the
        second cluster on, the order of the areas and the way the curve runs are drawn at random).
        """
        require_choice("arrangement", arrangement, ARRANGEMENTS)
        require_integer("clusters", clusters, at_least=1)
        per_cluster = _sizes_by_cluster(sizes, clusters, patches)
        total = sum(per_cluster[0])
        grid = _checked_grid(grid, total)
        cells = [row * grid[1] + column for row, column in grid_curve(*grid)] if grid else range(total)
        curve = np.array(cells)
        # cluster by cluster from one stream: the first clusters of a layout are those of one with fewer
        generator = stream(seed, "layout")
        rows = []
        for cluster, counts in enumerate(per_cluster):
            if arrangement == "scattered":
                areas, order = np.arange(len(counts)), generator.permutation(total)
            else:
                moved = cluster > 0
                areas = generator.permutation(len(counts)) if moved else np.arange(len(counts))
                order = np.roll(curve, generator.integers(total)) if moved and grid is None else curve
                order = order[::-1] if moved and generator.random() < 0.5 else order
            row = np.empty(total, dtype=np.int64)
            row[order] = np.repeat(areas, np.asarray(counts)[areas])
            rows.append(tuple(row.tolist()))
        return cls(partition=tuple(rows), grid=grid)

    @classmethod
    def from_labels(cls, labels: np.ndarray | Sequence[np.ndarray], *, patch_size: int) -> PatchLayout:
        """Build a layout from 2-D label images, one for each cluster, cut into square patches.

        Labels are whole numbers in any type, truth values too, as arrays or pictures of one channel. Each patch takes
        the label that most of its pixels have (the smallest such label in a tie); what does not fill a patch at the
        right and lower edge is left out. The largest area becomes the global one, the others follow by size.
        """
        require_integer("patch_size", patch_size, at_least=1)
        grids, rows = set(), []
        for image in label_images(labels):
            majority = majority_labels(image, patch_size)
            grids.add(majority.shape)
            rows.append(areas_by_size(majority))
        if len(grids) > 1:
            raise invalid_value("labels", sorted(grids), "the label images must give grids of one shape")
        return cls(partition=tuple(rows), grid=tuple(grids.pop()))

    @property
    def patches(self) -> int:
        """P, the number of positions."""
        return len(self.partition[0])

    @property
    def clusters(self) -> int:
        """K, the number of clusters."""
        return len(self.partition)

    @cached_property
    def area_of_patch(self) -> Int[np.ndarray, "cluster patch"]:
        """The area index of each position."""
        return np.array(self.partition, dtype=np.int64)

    @cached_property
    def sizes(self) -> Int[np.ndarray, "cluster area"]:
        """The number of positions in each area; 0 where a cluster has fewer areas than the most."""
        most = int(self.area_of_patch.max()) + 1
        return np.stack([np.bincount(row, minlength=most) for row in self.area_of_patch])

    @property
    def areas(self) -> int:
        """N, the number of areas (of the cluster that has most)."""
        return self.sizes.shape[1]

    @property
    def global_size(self) -> float:
        """C_1, the size of the global area."""
        return float(self.sizes[:, 0].mean())

    @property
    def local_size(self) -> float:
        """C_s, the mean size of the local areas."""
        local = self.sizes[:, 1:]
        return float(local[local > 0].mean())

    def describe(self) -> str:
        """Return one line for people: P, K, N, C_1, C_s, κ_c, κ_s, Δ."""
        return (
            f"P = {self.patches}, K = {self.clusters}, N = {self.areas}, C_1 = {self.global_size:.4g}, "
            f"C_s = {self.local_size:.4g}, κ_c = {self.kappa_c:.3f}, κ_s = {self.kappa_s:.3f}, "
            f"Δ = {self.information_gap:+.3f}"
        )


def _area_indices(field: str, row: object) -> tuple[int, ...]:
    """Return a cluster's area indices as whole numbers of Python; their values are checked by the caller."""
    require_sequence(field, row, "area indices, one for each position")
    array = np.asarray(row)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise invalid_value(field, row, "must hold one whole number for each position, the index of its area")
    return tuple(array.tolist())


def _checked_grid(grid: object, patches: int) -> tuple[int, int] | None:
    if grid is None:
        return None
    wanted = f"two whole numbers: rows times columns must be the {patches} positions"
    rows, columns = checked_pair("grid", grid, wanted)
    for side in (rows, columns):
        require_integer("grid", side, at_least=1)
    if rows * columns != patches:
        raise invalid_value("grid", grid, f"must be {wanted}")
    return int(rows), int(columns)


def _areas_from_exponents(
    patches: int, kappa_c: float, kappa_s: float, fraction: float
) -> tuple[int, int] | None:
    """Return the size of the global area and the number of local ones, or None where P is too small."""
    global_size = round(fraction * patches if kappa_c == 1 else patches**kappa_c)
    local_size = patches**kappa_s
    rest = patches - global_size
    if rest < local_size or global_size <= local_size:
        return None
    count = max(1, round(rest / local_size))
    # Rounding the count can leave local areas larger than P^κ_s, and in a small P larger than the global one.
    return (global_size, count) if rest <= count * global_size else None


def _require_room(patches: int, clusters: int) -> None:
    """Raise where a layout is too large to be made at all; what a run of it takes is asked when it starts."""
    if patches * clusters > MOST_POSITIONS:
        field, value = ("patches", patches) if patches >= clusters else ("clusters", clusters)
        raise invalid_value(
            field, value, f"patches times clusters must be {MOST_POSITIONS:,} or less: take fewer {field}"
        )


def _sizes_by_cluster(
    sizes: Sequence[int] | Sequence[Sequence[int]], clusters: int, patches: int | None
) -> list[tuple[int, ...]]:
    require_sequence("sizes", sizes, "area sizes, the global area first")
    rows: list[Any] = list(sizes)
    several = bool(rows) and not isinstance(rows[0], (str, Integral)) and hasattr(rows[0], "__len__")
    for row in rows if several else ():
        require_sequence("sizes", row, "area sizes, one for each cluster")
    _require_room(len(rows), clusters)
    nested = [tuple(row) for row in rows] if several else [tuple(rows)] * clusters
    if clusters not in (1, len(nested)):
        raise invalid_value("clusters", clusters, f"sizes are given for {len(nested)} clusters")
    for row in nested:
        for size in row:
            require_integer("sizes", size, at_least=1)
    total = sum(nested[0]) if patches is None else patches
    require_integer("patches", total, at_least=0)
    _require_room(total, len(nested))
    for row in nested:
        if sum(row) != total:
            raise invalid_value("sizes", row, f"add up to {sum(row)}; they must add up to {total} patches")
        if len(row) < 2:
            raise invalid_value("sizes", row, "must name at least two areas: the global one, then local ones")
    return nested
