"""Layouts from exponents and sizes (exact): who lies where, how large the areas are, what is refused."""

import re
from itertools import product
from math import log

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.data.exponents import KAPPA_C_RANGE, KAPPA_S_RANGE

exact = settings(derandomize=True, deadline=None, max_examples=60)
kappa_cs = st.floats(*KAPPA_C_RANGE)
kappa_ss = st.floats(*KAPPA_S_RANGE)


def pieces(cells):
    """Count the parts of a set of cells that king moves connect."""
    left, count = set(cells), 0
    while left:
        count, frontier = count + 1, [left.pop()]
        while frontier:
            row, column = frontier.pop()
            near = {(row + i, column + j) for i, j in product((-1, 0, 1), repeat=2)} & left
            left -= near
            frontier += near
    return count


def pieces_by_area(layout):
    """The number of king-connected parts of each area of each cluster."""
    cells = list(product(*map(range, layout.grid)))
    return [
        pieces(cell for cell, area in zip(cells, row, strict=True) if area == wanted)
        for row in layout.partition
        for wanted in set(row)
    ]


class TestFromExponents:
    @exact
    @given(patches=st.integers(2, 3000), kappa_c=kappa_cs, kappa_s=kappa_ss)
    def test_sizes(self, patches, kappa_c, kappa_s):
        try:
            layout = PatchLayout.from_exponents(patches, kappa_c, kappa_s)
        except ValueError as error:
            assume("are enough" not in str(error))
            raise
        (sizes,) = layout.sizes
        assert sizes.sum() == patches == layout.patches
        assert sizes[1:].max() - sizes[1:].min() <= 1
        assert sizes[0] >= sizes[1:].max()
        wanted = round(patches / 2) if kappa_c == 1 else round(patches**kappa_c)
        assert sizes[0] == wanted
        assert abs((patches - wanted) / patches**kappa_s - (layout.areas - 1)) <= 0.5

    @pytest.mark.parametrize(("kappa_c", "kappa_s"), [(0.6, 0.2), (0.75, 0.5), (0.9, 0.4)])
    def test_measured_exponents_are_the_asked_ones(self, kappa_c, kappa_s):
        layout = PatchLayout.from_exponents(4096, kappa_c, kappa_s)
        assert layout.kappa_c == pytest.approx(kappa_c, abs=1e-3)
        assert layout.kappa_s == pytest.approx(kappa_s, abs=2e-2)
        assert layout.exponents == (kappa_c, kappa_s)
        assert layout.information_gap == pytest.approx((1 - kappa_s) - 2 * (1 - kappa_c), rel=1e-15)

    def test_kappa_c_of_one_means_a_fraction_of_the_patches(self):
        half = PatchLayout.from_exponents(100, 1, 0.5)
        quarter = PatchLayout.from_exponents(100, 1.0, 0.5, global_fraction=0.25)
        assert half.sizes.tolist() == [[50, 10, 10, 10, 10, 10]]
        assert quarter.sizes[0, 0] == 25
        assert half.information_gap == quarter.information_gap == 0.5

    def test_largest_local_areas_come_first(self):
        layout = PatchLayout.from_exponents(50, 0.7, 0.3)
        assert layout.sizes.tolist() == [sorted(layout.sizes[0].tolist(), reverse=True)]

    def test_no_local_area_outgrows_the_global_one(self, complaint):
        """P = 10, κ_c = 0.5005: C_1 = 3, and 7 left patches in areas of about 2.99 would make a 4."""
        with complaint("patches", "are enough"):
            PatchLayout.from_exponents(10, 0.5005, 0.4757)

    @exact
    @given(patches=st.integers(2, 40), kappa_c=kappa_cs, kappa_s=kappa_ss, fraction=st.floats(0.02, 0.98))
    def test_suggested_number_of_patches_is_enough(self, patches, kappa_c, kappa_s, fraction):
        asked = {"kappa_c": kappa_c, "kappa_s": kappa_s, "global_fraction": fraction}
        try:
            PatchLayout.from_exponents(patches, **asked)
        except ValueError as error:
            found = re.fullmatch(rf"patches = {patches}: too few for .*: (\d+) are enough", str(error))
            enough = int(found[1])
            assume(enough <= 2**14)
            assert PatchLayout.from_exponents(enough, **asked).patches == enough

    @pytest.mark.parametrize(
        "asked",
        [
            {"kappa_c": 1 - 1e-15},
            {"kappa_c": 1, "global_fraction": 1 - 1e-13},
            {"kappa_c": 1, "global_fraction": 1e-10},
        ],
    )
    def test_hopeless_exponents_are_refused_at_once(self, complaint, asked):
        with complaint("patches", "are enough"):
            PatchLayout.from_exponents(64, kappa_s=0.5, **asked)

    @pytest.mark.parametrize(
        ("field", "value", "remedy"),
        [
            ("kappa_c", 0.5, "must be a number in [0.5005, 1]"),
            ("kappa_c", 1.01, "must be a number in [0.5005, 1]"),
            ("kappa_c", float("nan"), "must be a number in [0.5005, 1]"),
            ("kappa_s", 0.0, "must be a number in [0.001, 0.5]"),
            ("kappa_s", 0.51, "must be a number in [0.001, 0.5]"),
            ("kappa_s", "0.2", "must be a number in [0.001, 0.5]"),
            ("global_fraction", 0.0, "must be a number in (0, 1)"),
            ("global_fraction", 1.0, "must be a number in (0, 1)"),
            ("patches", 1, "must be a whole number, 2 or more"),
            ("patches", 64.0, "must be a whole number, 2 or more"),
            ("clusters", 0, "must be a whole number, 1 or more"),
            ("arrangement", "spiral", "must be one of scattered, contiguous"),
            ("grid", (7, 9), "rows times columns must be the 64 positions"),
            ("grid", (-8, -8), "must be a whole number, 1 or more"),
            ("seed", -1, "must be a whole number, 0 or more"),
        ],
    )
    def test_bad_values_are_named(self, complaint, field, value, remedy):
        with complaint(field, remedy):
            PatchLayout.from_exponents(**{"patches": 64, "kappa_c": 0.8, "kappa_s": 0.4, field: value})


class TestFromSizes:
    @pytest.mark.parametrize("arrangement", ["scattered", "contiguous"])
    def test_sizes_are_the_asked_ones_in_their_order(self, arrangement):
        layout = PatchLayout.from_sizes([3, 1, 5], clusters=4, arrangement=arrangement)
        assert layout.sizes.tolist() == [[3, 1, 5]] * 4
        assert (layout.patches, layout.clusters, layout.areas) == (9, 4, 3)

    def test_clusters_of_unequal_sizes_and_numbers_of_areas(self):
        layout = PatchLayout.from_sizes([[6, 2, 2], [4, 6], [7, 1, 1, 1]])
        assert layout.sizes.tolist() == [[6, 2, 2, 0], [4, 6, 0, 0], [7, 1, 1, 1]]
        assert (layout.clusters, layout.areas, layout.exponents) == (3, 4, None)
        assert layout.global_size == pytest.approx(17 / 3, rel=1e-15)
        assert layout.local_size == pytest.approx(13 / 6, rel=1e-15)

    def test_measured_exponents_and_gap(self):
        layout = PatchLayout.from_sizes([8, 4, 4])
        assert layout.kappa_c == pytest.approx(log(8) / log(16), rel=1e-15)
        assert layout.kappa_s == pytest.approx(log(4) / log(16), rel=1e-15)
        assert layout.information_gap == pytest.approx(0.5 - 2 * 0.25, abs=1e-15)
        shown = "P = 16, K = 1, N = 3, C_1 = 8, C_s = 4, κ_c = 0.750, κ_s = 0.500, Δ = +0.000"
        assert layout.describe() == shown

    def test_seed_decides_the_scatter(self):
        def scattered(seed):
            return PatchLayout.from_sizes([20, 20], clusters=2, seed=seed)

        assert scattered(3) == scattered(3)
        assert scattered(3) != scattered(4)
        assert scattered(3).partition[0] != scattered(3).partition[1]

    def test_scatter_is_uniform(self, statistics, test_seed):
        """Each of the 4 positions is the single global one equally often."""
        layout = PatchLayout.from_sizes([1, 3], clusters=4000, seed=test_seed)
        statistics.assert_uniform((layout.area_of_patch == 0).sum(0))

    @pytest.mark.parametrize(
        ("asked", "field", "remedy"),
        [
            ({"sizes": [4, 3], "patches": 8}, "sizes", "add up to 7; they must add up to 8 patches"),
            ({"sizes": [[4, 3], [4, 4]]}, "sizes", "add up to 8; they must add up to 7 patches"),
            ({"sizes": [4, 0]}, "sizes", "must be a whole number, 1 or more"),
            ({"sizes": [4, 2.5]}, "sizes", "must be a whole number, 1 or more"),
            ({"sizes": [8]}, "sizes", "must name at least two areas"),
            ({"sizes": []}, "sizes", "must name at least two areas"),
            ({"sizes": [[4, 4], [4, 4]], "clusters": 3}, "clusters", "sizes are given for 2 clusters"),
            ({"sizes": [4, 4], "arrangement": "rings"}, "arrangement", "must be one of scattered"),
            ({"sizes": [4, 2], "grid": (2, 4)}, "grid", "must be the 6 positions"),
            ({"sizes": [4, 2], "grid": (6,)}, "grid", "must be the 6 positions"),
            ({"sizes": [4, 2], "grid": (2.0, 3)}, "grid", "must be a whole number, 1 or more"),
        ],
    )
    def test_bad_values_are_named(self, complaint, asked, field, remedy):
        with complaint(field, remedy):
            PatchLayout.from_sizes(**asked)


class TestContiguous:
    @exact
    @given(
        rows=st.integers(1, 9),
        columns=st.integers(2, 9),
        cuts=st.sets(st.integers(1, 80), min_size=1, max_size=6),
        seed=st.integers(0, 9),
    )
    def test_every_area_of_every_cluster_is_connected(self, rows, columns, cuts, seed):
        inside = sorted(cut for cut in cuts if cut < rows * columns) or [1]
        sizes = np.diff([0, *inside, rows * columns]).tolist()
        asked = {"clusters": 3, "grid": (rows, columns), "seed": seed}
        layout = PatchLayout.from_sizes(sizes, arrangement="contiguous", **asked)
        assert set(pieces_by_area(layout)) == {1}

    def test_scattered_areas_are_not_connected(self):
        """The control: the same sizes and grid, scattered, fall apart."""
        layout = PatchLayout.from_exponents(256, 0.75, 0.5, clusters=3, grid=(16, 16))
        assert min(pieces_by_area(layout)) > 1

    def test_first_cluster_follows_the_positions_in_order(self):
        layout = PatchLayout.from_sizes([2, 3, 1], arrangement="contiguous")
        assert layout.partition == ((0, 0, 1, 1, 1, 2),)

    def test_order_of_the_areas_is_drawn_for_each_cluster(self):
        """On one row of cells an order and its reverse would be 2 of the 24 possible."""
        layout = PatchLayout.from_sizes([3, 3, 3, 3], clusters=50, arrangement="contiguous", grid=(1, 12))
        assert layout.partition[0][::3] == (0, 1, 2, 3)
        assert len({row[::3] for row in layout.partition}) > 10

    def test_areas_without_a_grid_are_intervals_of_the_circle_of_positions(self):
        layout = PatchLayout.from_sizes([7, 5, 4, 4], clusters=20, arrangement="contiguous")
        borders = (layout.area_of_patch != np.roll(layout.area_of_patch, 1, axis=1)).sum(1)
        assert borders.tolist() == [4] * 20


class TestPartition:
    def test_explicit_partition(self):
        layout = PatchLayout(partition=((0, 1, 0, 2), (1, 0, 0, 0)), grid=(2, 2))
        assert layout.area_of_patch.tolist() == [[0, 1, 0, 2], [1, 0, 0, 0]]
        assert layout.sizes.tolist() == [[2, 1, 1], [3, 1, 0]]

    @pytest.mark.parametrize(
        ("asked", "field", "remedy"),
        [
            ({"partition": ()}, "partition", "must hold at least one cluster"),
            ({"partition": ((0, 1), (0, 1, 1))}, "partition[1]", "an area to each of the 2 positions"),
            ({"partition": ((0, 0, 0),)}, "partition[0]", "must have at least two areas"),
            ({"partition": ((0, 2, 2),)}, "partition[0]", "area indices must be 0..1, none left out"),
            ({"partition": ((0, 1),), "grid": (2, 2)}, "grid", "must be the 2 positions"),
            ({"partition": ((0, 1),), "grid": (-1, -2)}, "grid", "must be a whole number, 1 or more"),
        ],
    )
    def test_bad_values_are_named(self, complaint, asked, field, remedy):
        with complaint(field, remedy):
            PatchLayout(**asked)


def test_a_layout_of_thousands_of_patches_prints_one_short_line():
    layout = PatchLayout.from_exponents(4096, 0.9, 0.4, clusters=4)
    assert repr(layout) == str(layout) == f"<PatchLayout {layout.describe()}>"
    assert len(repr(PatchGenerator(layout=layout))) < 400


def test_partitions_of_lists_and_arrays_are_those_of_tuples():
    expected = PatchLayout(partition=((0, 1, 1), (1, 0, 0)), grid=(1, 3))
    for partition in ([[0, 1, 1], [1, 0, 0]], np.array([[0, 1, 1], [1, 0, 0]], dtype=np.uint8)):
        found = PatchLayout(partition=partition, grid=[1, np.int64(3)])
        assert found == expected and hash(found) == hash(expected)
        assert all(type(area) is int for row in found.partition for area in row)


@pytest.mark.parametrize("exponents", [(np.nan, 0.3), ("a", 0.3), (0.9,), 0.9, (0.9, 1.5), (0.9, 0.3, 0.1)])
def test_exponents_are_two_numbers(exponents, complaint):
    with complaint("exponents"):
        PatchLayout(partition=((0, 1),), exponents=exponents)
