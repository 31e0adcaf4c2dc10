"""The compiled engine of the CPU against the products of torch: equal numbers, large ones too; seeds to the bit."""

import threading

import numpy as np
import pytest
import torch

from vitdyn.attention import Correlations, Workspace, factored, products
from vitdyn.data import PatchGenerator, PatchLayout

numba = pytest.importorskip("numba")
from vitdyn.attention import (  # noqa: E402
    rows,
    rows_blocks,
    rows_masks,
    rows_powers,
    rows_tables,
    rows_vector,
    tiles,
    tiles_lanes,
    tiles_masks,
    tiles_unit,
)

SIZES = {
    "one": [[13, 5, 1, 4]],
    "three": [[13, 5, 1, 4], [9, 9, 5], [6, 2, 3, 4, 8]],
    "wide": [[70, 33, 17, 8]] * 2,
    "deep": [[150, 3]],
    "many": [[4, 3, 2, 6, 5], [1, 8, 4, 4, 3], [12, 2, 2, 2, 2], [4, 4, 4, 4, 4]],
    "alike": [[40, 9, 5, 9], [9, 33, 21], [12, 51]],
}
ARRANGEMENTS = {"alike": "contiguous"}
KINDS = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
EVERY = pytest.mark.parametrize("sizes", SIZES)


@pytest.fixture(params=["rows", "tiles"], autouse=True)
def engine(request, monkeypatch):
    """Each way to the gradient of a residual at every size, also where the other one is quicker."""
    if request.param == "tiles" and not tiles_unit.available():
        pytest.skip("no matrix unit")

    def taken(layout, dtype, samples):
        return request.param == "tiles" and dtype == torch.float32

    monkeypatch.setattr(tiles, "worthwhile", taken)
    return request.param


def layout_of(sizes):
    arrangement = ARRANGEMENTS.get(sizes, "scattered")
    return PatchLayout.from_sizes(SIZES[sizes], arrangement=arrangement, seed=1)


def make(sizes, scale, dtype, *, samples=7, seeds=2):
    """A batch with a sample wholly seen, one wholly hidden and one that lacks an area; Φ up to ``scale``."""
    draws = torch.Generator().manual_seed(len(sizes))
    layout = layout_of(sizes)
    batch = PatchGenerator(layout=layout).sample(samples, range(seeds), dtype=dtype)
    visible = torch.rand(seeds, samples, layout.patches, generator=draws) < 0.5
    visible[0, 0], visible[0, 1] = True, False
    visible[-1, 0, batch.area[-1, 0] == 2] = False
    zeros = Correlations.zeros(layout, seeds, dtype=dtype)
    phi, upsilon = (
        torch.randn(block.shape, generator=draws, dtype=dtype) * min(scale, 3.0)
        for block in zeros.named().values()
    )
    correlations = Correlations(phi * max(scale / 3, 1), upsilon)
    return correlations, (batch.latents, batch.cluster, visible, layout), draws


def agree(fast, slow, tolerance):
    for name, block in slow.named().items():
        found = fast.named()[name]
        assert found.isfinite().all()
        error = tolerance * max(1.0, float(block.abs().max()))
        torch.testing.assert_close(found, block, rtol=tolerance, atol=error)


def left_by_tiles(correlations, batch, results):
    """Take the gradient of masked reconstruction on the matrix unit; return the seeds that it leaves."""
    *parts, layout = batch
    given = rows._given(*correlations.named().values(), *parts)
    found = [block.numpy() for block in results.named().values()]
    scales = np.ones(len(parts[0]), found[1].dtype)
    return tiles.prepare(*parts[0].shape[:2], layout)(*given, scales, *found)


@EVERY
@pytest.mark.parametrize("scale", [0.1, 3.0, 40.0])
@KINDS
@pytest.mark.parametrize("broadcast", [False, True])
def test_forward_and_pullback(sizes, scale, dtype, tolerance, broadcast):
    correlations, batch, draws = make(sizes, scale, dtype)
    shape = (*batch[0].shape, batch[3].patches)
    adjoint = torch.randn(*shape[:3], 1 if broadcast else shape[3], generator=draws, dtype=dtype)
    weight = None if broadcast else torch.rand(*shape[:2], shape[3], generator=draws).to(dtype)
    (slow, kept), (fast, saved) = (
        engine.forward(correlations, *batch, Workspace()) for engine in (products, rows)
    )
    torch.testing.assert_close(fast, slow, rtol=tolerance, atol=tolerance)
    agree(rows.pullback(saved, adjoint, weight), products.pullback(kept, adjoint, weight), tolerance)


@EVERY
@pytest.mark.parametrize("samples", [7, 40])
@pytest.mark.parametrize("scale", [0.1, 3.0, 40.0])
@KINDS
def test_mean_attention_over_queries(sizes, samples, scale, dtype, tolerance):
    """Also where W_0 as a difference loses its digits and a block is done twice, and in a workspace used before."""
    correlations, batch, draws = make(sizes, scale, dtype, samples=samples)
    slow, kept = products.forward(correlations, *batch, Workspace())
    work = Workspace()
    for _ in range(2):
        fast, saved = rows.pooled(correlations, *batch, work)
        torch.testing.assert_close(fast, slow.mean(-1), rtol=tolerance, atol=tolerance)
    adjoint = torch.randn(*batch[0].shape, 1, generator=draws, dtype=dtype)
    agree(rows.pullback(saved, adjoint), products.pullback(kept, adjoint), tolerance)


@EVERY
@KINDS
def test_a_residual_with_a_scale_for_each_seed(sizes, dtype, tolerance):
    correlations, batch, draws = make(sizes, 1.0, dtype, samples=33)
    scales = torch.rand(len(batch[0]), generator=draws, dtype=dtype)
    every = [
        engine.residual_gradient(correlations, *batch, scales, Workspace()) for engine in (rows, products)
    ]
    agree(*every, tolerance)
    for seed, scale in enumerate(scales.tolist()):
        alone = rows.residual_gradient(correlations, *batch, scale, Workspace())
        for name, block in alone.named().items():
            assert torch.equal(block[seed], every[0].named()[name][seed])


@EVERY
@pytest.mark.parametrize("samples", [7, 40, 70, 140])
@pytest.mark.parametrize("scale", [0.1, 3.0, 40.0])
@KINDS
def test_gradient_of_a_residual(sizes, samples, scale, dtype, tolerance):
    correlations, batch, _ = make(sizes, scale, dtype, samples=samples)
    arguments = (correlations, *batch, 1 / samples)
    slow, fast = (engine.residual_gradient(*arguments, Workspace()) for engine in (products, rows))
    agree(fast, slow, tolerance)


@EVERY
@pytest.mark.parametrize("samples", [1, 33, 64])
def test_the_matrix_unit_is_as_exact_as_float32(engine, sizes, samples):
    """It does what is usual, to 3e-6 where attention is nearly all on one area, and leaves what it is not for."""
    if engine != "tiles":
        pytest.skip("nothing of the matrix unit")
    correlations, batch, _ = make(sizes, 0.5, torch.float32, samples=max(samples, 2))
    exact = correlations.map(torch.Tensor.double), batch[0].double(), *batch[1:]
    for sign in (1.0, -1.0):
        for phi in (given[0].feature_position for given in ((correlations,), exact)):
            phi.copy_(sign * 3.0 + 0.1 * phi)
        slow = products.residual_gradient(*exact, 1.0, Workspace())
        results = correlations.map(torch.zeros_like)
        left = left_by_tiles(correlations, batch, results)
        assert list(left) == ([] if sign > 0 else [0])
        fast = rows.residual_gradient(correlations, *batch, 1.0, Workspace())
        for name, block in slow.named().items():
            assert (fast.named()[name] - block).abs().max() < 3e-6 * block.abs().max()
            for seed in set(range(2)) - set(left):
                assert torch.equal(fast.named()[name][seed], results.named()[name][seed])


@pytest.mark.parametrize("large", ["feature_position", "position_position"])
def test_a_seed_with_large_correlations_is_left_to_the_rows(engine, large):
    if engine != "tiles":
        pytest.skip("nothing of the matrix unit")
    correlations, batch, _ = make("one", 0.1, torch.float32, seeds=3)
    correlations.named()[large][1] += 40.0
    assert list(left_by_tiles(correlations, batch, correlations.map(torch.zeros_like))) == [1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_seed_gives_the_same_bits_alone_and_beside_others(dtype):
    """One seed of three has large correlations, which must not change how the others are computed."""
    correlations, (latents, cluster, visible, layout), _ = make("three", 0.1, dtype, samples=9, seeds=3)
    correlations.feature_position[1] *= 300
    correlations.position_position[2] *= 30
    together = rows.residual_gradient(correlations, latents, cluster, visible, layout, 1.0, Workspace())
    attention, _ = rows.forward(correlations, latents, cluster, visible, layout, Workspace())
    means, _ = rows.pooled(correlations, latents, cluster, visible, layout, Workspace())
    for seed in range(3):
        one = slice(seed, seed + 1)
        given = correlations.map(lambda block, one=one: block[one].clone()), latents[one], cluster[one]
        alone = rows.residual_gradient(*given, visible[one], layout, 1.0, Workspace())
        for name, block in alone.named().items():
            assert torch.equal(block, together.named()[name][one])
        assert torch.equal(rows.forward(*given, visible[one], layout, Workspace())[0], attention[one])
        assert torch.equal(rows.pooled(*given, visible[one], layout, Workspace())[0], means[one])


def test_what_requires_a_gradient_is_taken_as_it_stands():
    """The factored forms record no graph, whoever asks for one."""
    correlations, (latents, *rest), _ = make("one", 0.5, torch.float32, samples=33)
    live = correlations.map(lambda block: block.clone().requires_grad_()), latents.clone().requires_grad_()
    plain, found = (
        factored.residual_gradient(*given, *rest, 1.0) for given in ((correlations, latents), live)
    )
    assert torch.equal(plain.position_position, found.position_position)
    attention, saved = factored.factored_forward(*live, *rest)
    assert torch.equal(attention, factored.factored_forward(correlations, latents, *rest)[0])
    assert not factored.factored_pullback(saved, torch.ones_like(attention)).feature_position.requires_grad


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.float32, torch.float64])
def test_arguments_of_other_types_are_taken_for_what_they_say(kind):
    correlations, (latents, cluster, visible, layout), _ = make("one", 0.5, torch.float32, samples=33)
    plain = correlations, latents, cluster, visible, layout
    other = correlations, latents.double(), cluster.int(), visible.to(kind), layout
    slow, fast = (factored.residual_gradient(*given, 1.0) for given in (plain, other))
    assert torch.equal(slow.position_position, fast.position_position)
    slow, fast = (factored.factored_forward(*given)[0] for given in (plain, other))
    assert torch.equal(slow, fast)


def test_a_workspace_serves_batches_of_any_size_in_turn():
    correlations, (latents, *batch, layout), _ = make("one", 0.5, torch.float32, samples=70, seeds=3)
    work = Workspace()
    for seeds, samples in ((3, 40), (3, 70), (2, 70), (3, 33)):
        part = [block[:seeds, :samples] for block in (latents, *batch)]
        given = correlations.map(lambda block, seeds=seeds: block[:seeds]), *part, layout, 1.0
        alone, again = rows.residual_gradient(*given, Workspace()), rows.residual_gradient(*given, work)
        for name, block in alone.named().items():
            assert torch.equal(block, again.named()[name])


def test_threads_do_not_disturb_each_other():
    correlations, batch, _ = make("wide", 1.0, torch.float32, samples=40)
    arguments = (correlations, *batch, 1.0)
    expected = rows.residual_gradient(*arguments, Workspace()).map(torch.clone)
    found = {}

    def many(name):
        work = Workspace()
        results = [rows.residual_gradient(*arguments, work).map(torch.clone) for _ in range(10)]
        found[name] = all(torch.equal(r.position_position, expected.position_position) for r in results)

    threads = [threading.Thread(target=many, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {0: True, 1: True, 2: True}


def test_engine_is_compiled_on_cpu_and_products_without_numba(monkeypatch):
    factored._engine.cache_clear()
    assert factored._engine("cpu") is rows
    assert factored._engine("mps") is products
    half = Correlations.zeros(PatchLayout.from_sizes([3, 2]), 1, dtype=torch.bfloat16)
    assert factored._engine_of(half, PatchLayout.from_sizes([3, 2])) is products
    factored._engine.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "vitdyn.attention.rows", None)
    assert factored._engine("cpu") is products
    factored._engine.cache_clear()


def test_compiled_powers_are_exact_to_a_unit_or_two():
    @numba.njit
    def each(values, powers, twos, products):
        one_and_half = rows_vector.splat(values.dtype.type(1.5))
        for at in range(0, values.size, 1024 // values.itemsize // 8):
            place = np.uint64(at)
            block = rows_vector.load(values, place)
            rows_vector.store(powers, place, rows_powers.exponential(block))
            rows_vector.store(twos, place, rows_powers.two_to(block))
            rows_vector.store(products, place, rows_powers.two_to_product(block, one_and_half))

    for values, error in (
        (np.linspace(-84, 84, 2**18, dtype=np.float32), 1.5e-7),
        (np.round(np.linspace(-600, 600, 2**14), 3), 5e-16),
    ):
        found = np.empty((3, values.size), values.dtype)
        each(values, *found)
        true = values.astype(np.float64)
        for own, right in zip(found, (np.exp(true), 2**true, 2**true * 2 ** (true / 2)), strict=True):
            assert np.abs(own / right - 1).max() < error


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("patches", [5, 16, 40, 64])
def test_blocks_of_queries_are_the_transpose(dtype, patches, rng):
    matrix = rng.standard_normal((patches, patches)).astype(dtype)
    width, back = rows_vector.lanes(dtype), np.empty((patches, patches), dtype)
    less, factor = rng.standard_normal((1, width)).astype(dtype), rng.random((patches, width)).astype(dtype)
    for first in range(0, patches, width):
        block = np.full((patches, width), np.nan, dtype)
        rows_blocks.read_block(matrix, first, block)
        inside = min(width, patches - first)
        assert (block[:, :inside] == matrix[first : first + inside].T).all()
        assert not block[:, inside:].any()
        rows_blocks.write_block(block, less, factor, first, back)
        expected = ((block - less) * factor)[:, :inside].T
        np.testing.assert_allclose(
            back[first : first + inside], expected, rtol=1e-5 if dtype == np.float32 else 1e-14
        )


def test_clusters_that_are_cut_alike_share_tables():
    """Each key once, each run in one area of its cluster, and the first of an area marked; intervals go together."""
    together = {}
    for sizes in SIZES:
        layout = layout_of(sizes)
        plan = rows_masks.key_plan(layout, np.dtype(np.float32), 33)
        together[sizes] = plan.together
        assert (np.sort(plan.cut, 1) == np.arange(layout.patches)).all()
        for k, area in enumerate(layout.area_of_patch):
            chunks = plan.chunks[plan.chunk_ends[k] : plan.chunk_ends[k + 1]]
            runs = [(own, plan.cut[k, start : start + count]) for own, start, count, _ in chunks]
            assert all((area[keys] == own).all() and 0 < len(keys) <= 32 for own, keys in runs)
            assert sorted(np.concatenate([keys for _, keys in runs])) == list(range(layout.patches))
            marked = [own for own, *_, begins in chunks if begins]
            assert sorted(marked) == sorted(set(area.tolist()))
            assert all(
                own in chunks[: at + 1, 0][chunks[: at + 1, 3] == 1] for at, (own, *_) in enumerate(chunks)
            )
            if plan.together > 1:
                assert (plan.cut[k] == plan.cut[0]).all()
                assert (chunks[:, 1:3] == plan.chunks[: len(chunks), 1:3]).all()
    assert together == {"one": 1, "three": 1, "wide": 2, "deep": 1, "many": 1, "alike": 3}


@pytest.mark.parametrize("sizes", ["three", "alike"])
def test_words_hold_the_masks(sizes, rng):
    layout = layout_of(sizes)
    samples = 33 if sizes == "alike" else 70
    plan = rows_masks.key_plan(layout, np.dtype(np.float32), samples)
    cluster = rng.integers(0, 3, samples)
    visible = rng.random((samples, layout.patches)) < 0.5
    slots, ends, chunks = np.empty(samples, np.int64), np.empty((2, 4), np.int64), np.empty((9, 3), np.int64)
    rows_masks.fill_slots(cluster, slots, ends, chunks)
    assert (cluster[slots] == np.sort(cluster)).all()
    assert (ends[0] == np.searchsorted(np.sort(cluster), np.arange(4))).all()
    shown = np.empty((samples, rows_masks.padded(layout.patches, np.dtype(np.float32))), np.uint8)
    by_key = np.full((9, layout.patches, 8), 255, np.uint8)
    by_sample, hidden = np.full((2, plan.most_chunks, samples, 8), 255, np.uint8)
    chunks = chunks[: ends[1, -1]]
    rows_masks.fill_codes(
        visible.view(np.uint8),
        slots,
        chunks,
        plan.order,
        plan.cut,
        plan.chunks,
        plan.chunk_ends,
        shown,
        by_key,
        by_sample,
    )
    assert (shown[:, : layout.patches] == visible[slots]).all()
    assert shown[:, layout.patches :].all()

    def bits(code, size):
        assert not (code & 15).any()
        nibbles = [int(code[4 * (group % 2) + group // 2]) >> 4 for group in range(8)]
        every = np.array([bool(nibbles[i // 4] >> (i % 4) & 1) for i in range(32)])
        assert not every[size:].any()
        return every[:size].tolist()

    for chunk, (k, first, size) in enumerate(chunks):
        assert ends[1, k] <= chunk < ends[1, k + 1]
        seen = visible[slots[first : first + size]]
        assert [bits(code, size) for code in by_key[chunk]] == seen[:, plan.order[k]].T.tolist()
        low, high = plan.chunk_ends[k : k + 2]
        rows_tables.flip_codes(by_sample, plan.chunks, low, high, first, first + size, hidden)
        for at, (_, start, keys, _) in enumerate(plan.chunks[low:high]):
            expected = seen[:, plan.cut[k, start : start + keys]]
            found = [bits(by_sample[at, slot], keys) for slot in range(first, first + size)]
            assert found == expected.tolist()
            found = [bits(hidden[at, slot], keys) for slot in range(first, first + size)]
            assert found == (~expected).tolist()


def test_marks_hold_the_masks(rng):
    """A pair of tiles for each chunk of samples, area and chunk of keys that meet, by key and by sample."""
    layout = PatchLayout.from_sizes([[40, 5, 1, 4], [9, 36, 5], [6, 12, 3, 4, 25]], seed=1)
    plan, samples, patches, areas = tiles_masks.tile_plan(layout), 70, layout.patches, layout.areas
    cluster, visible = rng.integers(0, 3, samples), rng.random((samples, patches)) < 0.5
    lanes, of_lane = np.empty(96, np.int64), np.empty((3, 32), np.int32)
    of_cluster, own = np.empty((3, 3), np.uint32), np.empty((3, patches, areas), np.uint32)
    words, present = np.empty((3, patches + 1), np.uint32), np.empty((3, areas, len(plan.order)), np.uint32)
    by_key, by_sample = np.empty((2, 3 * plan.most_pairs, 16, 32, 2), np.uint16)
    tiles_masks.fill_lanes(cluster, 3, lanes, of_lane, of_cluster)
    tiles_masks.fill_own(of_cluster, plan.area, own)
    tiles_masks.fill_words(visible.view(np.uint8), lanes, words)
    tiles_masks.fill_marks(words, of_lane, of_cluster, plan.keys, plan.member, present, by_key, by_sample)

    assert sorted(lanes[:samples]) == list(range(samples))
    assert (lanes[samples:] == -1).all()
    own_cluster = cluster[lanes[:samples]]
    assert (own_cluster == np.sort(cluster)).all()
    assert (of_lane.reshape(-1)[:samples] == own_cluster).all()

    def unpacked(word):
        return (word[..., None] >> np.arange(32) & 1).astype(bool)

    lane_has = np.zeros((96, patches, areas), bool)  # the sample's own area of a patch
    for lane, b in enumerate(lanes[:samples]):
        lane_has[lane, np.arange(patches), layout.area_of_patch[cluster[b]]] = True
    assert (unpacked(own).transpose(0, 3, 1, 2).reshape(lane_has.shape) == lane_has).all()
    shows = np.zeros((96, patches + 1), bool)
    shows[:samples, :-1] = visible[lanes[:samples]]
    assert (unpacked(words).transpose(0, 2, 1).reshape(shows.shape) == shows).all()

    def straight(marks):
        """Rows of which i and 16 + i lie in turns."""
        assert np.isin(marks, [0, 0x3F80]).all()
        return marks.transpose(2, 0, 1).reshape(32, 32) > 0

    lane_has = np.pad(lane_has, ((0, 0), (0, 1), (0, 0)))
    pairs = [
        (chunk, area, at)
        for chunk in range(3)
        for area in range(areas)
        for at, keys in enumerate(plan.keys)
        if lane_has[32 * chunk : 32 * chunk + 32, keys, area].any()
    ]
    assert pairs == [tuple(place) for place in np.argwhere(present)]
    by_samples = sorted(pairs, key=lambda one: (one[2], one[0], one[1]))
    for pair, (chunk, area, at) in enumerate(pairs):
        chosen, keys = slice(32 * chunk, 32 * chunk + 32), plan.keys[at]
        expected = shows[chosen, keys] & lane_has[chosen, keys, area]
        assert (expected == straight(by_key[pair]).T).all()
        place = by_samples.index((chunk, area, at))
        assert (straight(by_sample[place]) == expected).all()


def test_pieces_add_up_to_the_number(rng):
    """Three bfloat16 pieces are a float32 number, to the bit; number i and number 16 + i in turns."""
    if not tiles_unit.available():
        pytest.skip("no matrix unit")

    @numba.njit
    def cut(rows, pieces):
        tiles_unit.cut(rows_vector.row(rows, 0), pieces, 32)

    given = (rng.standard_normal((1, 32)) * 10.0 ** rng.integers(-20, 20, (1, 32))).astype(np.float32)
    given[0, 16:20] = 1e-36, -1e-38, 1e-40, 0.0  # the pieces of the smallest are less than normal numbers
    pieces = np.zeros((3, 16, 32), np.uint16)
    cut(given, pieces)
    numbers = (pieces[:, 1].astype(np.uint32) << 16).view(np.float32).reshape(3, 16, 2)
    error = np.abs((numbers[2] + numbers[1]) + numbers[0] - given.reshape(2, 16).T)
    assert error.max() < 2.0**-132  # what bfloat16 has not
    assert not np.delete(error, slice(0, 4), 0).any()
    assert not pieces[:, [0, *range(2, 16)]].any()


def test_tiles_are_taken_where_they_pay_and_the_machine_has_them(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(tiles, "available", lambda: True)
    full, single = PatchLayout.from_sizes([[64] * 4]), torch.float32
    assert tiles.worthwhile(full, single, 16)
    assert not tiles.worthwhile(full, single, 15)
    assert not tiles.worthwhile(full, torch.float64, 64)
    assert not tiles.worthwhile(PatchLayout.from_sizes([32] * 9), single, 64)
    small, spread = PatchLayout.from_sizes([40, 8, 8, 8]), PatchLayout.from_sizes([131, *[25] * 5])
    assert tiles.worthwhile(small, single, 64)
    assert not tiles.worthwhile(PatchLayout.from_sizes([[40, 8, 8, 8]] * 2, seed=0), single, 64)
    assert not tiles.worthwhile(spread, single, 64)
    many = PatchLayout.from_sizes([32, 32], clusters=17, arrangement="contiguous")
    assert not tiles.worthwhile(many, single, 1000)
    monkeypatch.undo()
    tiles_unit.available.cache_clear()
    monkeypatch.setattr(numba.config, "CPU_FEATURES", "+avx2")
    assert not tiles.worthwhile(full, single, 64)
    tiles_unit.available.cache_clear()


def test_sums_of_chosen_lanes(rng):
    """Of 32 rows, and of neighbouring rows only where they are asked for."""
    if not tiles_unit.available():
        pytest.skip("no matrix unit")

    @numba.njit
    def add(rows, word, sums):
        rows_vector.set_row(sums, 0, tiles_lanes.totals_of(rows, 8, word))

    rows, sums = rng.standard_normal((48, 32)).astype(np.float32), np.empty((1, 32), np.float32)
    for chosen in (np.ones(32, bool), np.zeros(32, bool), rng.random(32) < 0.5):
        rows[:, ~chosen] = np.nan
        add(rows, np.packbits(chosen, bitorder="little").view(np.uint32)[0], sums)
        np.testing.assert_allclose(sums[0], rows[8:40, chosen].sum(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("features", ["", None])
def test_powers_by_table_and_without(features, monkeypatch):
    """To a unit of float32's last digit; by the table also where exponents are far too large."""
    monkeypatch.setattr(numba.config, "CPU_FEATURES", features)
    if features is None and not rows_vector.machine_has("avx512f"):
        pytest.skip("no table in a register")

    @numba.njit
    def each(values, found):
        third = rows_vector.splat(np.float32(1 / 3))
        for at in range(0, values.size, 32):
            block = rows_vector.load(values, np.uint64(at))
            rows_vector.store(found, np.uint64(at), rows_powers.two_to_product(block, third))

    values = np.linspace(-370, 380, 2**20, dtype=np.float32)
    found = np.empty_like(values)
    each(values, found)
    assert np.abs(found / np.exp2(values.astype(float) * np.float32(1 / 3)) - 1).max() < 1.5e-7
    if features is None:
        values = np.repeat(np.float32([-1e5, -6e2, 6e2, 1e5, -np.inf, np.inf, np.nan, 0.0]), 4)
        found = np.empty_like(values)
        each(values, found)
        np.testing.assert_array_equal(found[::4][[0, 1, 2, 3, 6, 7]], [0, 0, np.inf, np.inf, np.nan, 1])
