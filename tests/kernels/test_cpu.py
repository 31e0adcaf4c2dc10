"""The compiled kernels of the CPU against products in torch: equal numbers, large ones too; seeds to the bit."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.kernels import Correlations, factored, torch_backend
from vitdyn.kernels.workspace import Workspace

numba = pytest.importorskip("numba")
from vitdyn.kernels.cpu import backend as cpu  # noqa: E402
from vitdyn.kernels.cpu import masks, powers, query_blocks, simd, subset_sums  # noqa: E402

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
    return correlations, (batch, visible), draws


def agree(fast, slow, tolerance):
    for name, block in slow.named().items():
        found = fast.named()[name]
        assert found.isfinite().all()
        error = tolerance * max(1.0, float(block.abs().max()))
        torch.testing.assert_close(found, block, rtol=tolerance, atol=error)


@EVERY
@pytest.mark.parametrize("scale", [0.1, 3.0, 40.0])
@KINDS
@pytest.mark.parametrize("broadcast", [False, True])
def test_forward_and_backward(sizes, scale, dtype, tolerance, broadcast):
    correlations, (batch, view), draws = make(sizes, scale, dtype)
    shape = (*batch.latents.shape, 1 if broadcast else batch.layout.patches)
    cotangent = torch.randn(*shape, generator=draws, dtype=dtype)
    (slow, kept), (fast, saved) = (
        backend.forward(correlations, batch, view, Workspace()) for backend in (torch_backend, cpu)
    )
    torch.testing.assert_close(fast, slow, rtol=tolerance, atol=tolerance)
    agree(cpu.backward(saved, cotangent), torch_backend.backward(kept, cotangent), tolerance)


@EVERY
@pytest.mark.parametrize("samples", [7, 40])
@pytest.mark.parametrize("scale", [0.1, 3.0, 40.0])
@KINDS
def test_mean_attention_over_queries(sizes, samples, scale, dtype, tolerance):
    """Also where W_0 as a difference loses its digits and a block is done twice, and in a workspace used before."""
    correlations, batch, draws = make(sizes, scale, dtype, samples=samples)
    slow, kept = torch_backend.forward(correlations, *batch, Workspace())
    work = Workspace()
    for _ in range(2):
        fast, saved = cpu.mean_pooled(correlations, *batch, work)
        torch.testing.assert_close(fast, slow.mean(-1), rtol=tolerance, atol=tolerance)
    cotangent = torch.randn(*batch[0].latents.shape, 1, generator=draws, dtype=dtype)
    agree(cpu.backward(saved, cotangent), torch_backend.backward(kept, cotangent), tolerance)


@EVERY
@KINDS
def test_a_residual_with_a_scale_for_each_seed(sizes, dtype, tolerance):
    correlations, batch, draws = make(sizes, 1.0, dtype, samples=33)
    scales = torch.rand(len(batch[0].seeds), generator=draws, dtype=dtype)
    every = [
        backend.residual_gradient(correlations, *batch, scales, Workspace())
        for backend in (cpu, torch_backend)
    ]
    agree(*every, tolerance)
    for seed, scale in enumerate(scales.tolist()):
        alone = cpu.residual_gradient(correlations, *batch, scale, Workspace())
        for name, block in alone.named().items():
            assert torch.equal(block[seed], every[0].named()[name][seed])


@EVERY
@pytest.mark.parametrize("samples", [7, 40, 70, 140])
@pytest.mark.parametrize("scale", [0.1, 3.0, 40.0])
@KINDS
def test_gradient_of_a_residual(sizes, samples, scale, dtype, tolerance):
    correlations, batch, _ = make(sizes, scale, dtype, samples=samples)
    arguments = (correlations, *batch, 1 / samples)
    slow, fast = (backend.residual_gradient(*arguments, Workspace()) for backend in (torch_backend, cpu))
    agree(fast, slow, tolerance)


def of_seed(batch, seed):
    one = slice(seed, seed + 1)
    return replace(batch, seeds=(seed,), latents=batch.latents[one], cluster=batch.cluster[one])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_seed_gives_the_same_bits_alone_and_beside_others(dtype):
    """One seed of three has large correlations, which must not change how the others are computed."""
    correlations, (batch, view), _ = make("three", 0.1, dtype, samples=9, seeds=3)
    correlations.feature_position[1] *= 300
    correlations.position_position[2] *= 30
    together = cpu.residual_gradient(correlations, batch, view, 1.0, Workspace())
    attention, _ = cpu.forward(correlations, batch, view, Workspace())
    means, _ = cpu.mean_pooled(correlations, batch, view, Workspace())
    for seed in range(3):
        one = slice(seed, seed + 1)
        given = correlations.map(lambda block, one=one: block[one].clone()), of_seed(batch, seed), view[one]
        alone = cpu.residual_gradient(*given, 1.0, Workspace())
        for name, block in alone.named().items():
            assert torch.equal(block, together.named()[name][one])
        assert torch.equal(cpu.forward(*given, Workspace())[0], attention[one])
        assert torch.equal(cpu.mean_pooled(*given, Workspace())[0], means[one])


def test_what_requires_a_gradient_is_taken_as_it_stands():
    """The factored forms record no graph, whoever asks for one."""
    correlations, (batch, view), _ = make("one", 0.5, torch.float32, samples=33)
    live = correlations.map(lambda block: block.clone().requires_grad_())
    asked = replace(batch, latents=batch.latents.clone().requires_grad_())
    plain, found = (
        factored.residual_gradient(*given, view, 1.0) for given in ((correlations, batch), (live, asked))
    )
    assert torch.equal(plain.position_position, found.position_position)
    attention, saved = factored.forward(live, asked, view)
    assert torch.equal(attention, factored.forward(correlations, batch, view)[0])
    assert not factored.backward(saved, torch.ones_like(attention)).feature_position.requires_grad


@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.float32, torch.float64])
def test_arguments_of_other_types_are_taken_for_what_they_say(kind):
    correlations, (batch, view), _ = make("one", 0.5, torch.float32, samples=33)
    other = replace(batch, latents=batch.latents.double(), cluster=batch.cluster.int())
    both = (correlations, batch, view), (correlations, other, view.to(kind))
    slow, fast = (factored.residual_gradient(*given, 1.0) for given in both)
    assert torch.equal(slow.position_position, fast.position_position)
    slow, fast = (factored.forward(*given)[0] for given in both)
    assert torch.equal(slow, fast)


def test_a_workspace_serves_batches_of_any_size_in_turn():
    correlations, (batch, view), _ = make("one", 0.5, torch.float32, samples=70, seeds=3)
    work = Workspace()
    for seeds, samples in ((3, 40), (3, 70), (2, 70), (3, 33)):
        latents, cluster = (part[:seeds, :samples] for part in (batch.latents, batch.cluster))
        part = replace(batch, latents=latents, cluster=cluster)
        given = correlations.map(lambda block, seeds=seeds: block[:seeds]), part, view[:seeds, :samples], 1.0
        alone, again = cpu.residual_gradient(*given, Workspace()), cpu.residual_gradient(*given, work)
        for name, block in alone.named().items():
            assert torch.equal(block, again.named()[name])


def test_threads_do_not_disturb_each_other():
    correlations, batch, _ = make("wide", 1.0, torch.float32, samples=40)
    arguments = (correlations, *batch, 1.0)
    expected = cpu.residual_gradient(*arguments, Workspace()).map(torch.clone)
    found = {}

    def many(name):
        work = Workspace()
        results = [cpu.residual_gradient(*arguments, work).map(torch.clone) for _ in range(10)]
        found[name] = all(torch.equal(r.position_position, expected.position_position) for r in results)

    threads = [threading.Thread(target=many, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {0: True, 1: True, 2: True}


def test_compiled_powers_are_exact_to_a_unit_or_two():
    @numba.njit
    def each(values, exps, twos, products):
        one_and_half = simd.splat(values.dtype.type(1.5))
        for at in range(values.shape[0]):
            block = simd.load_row(values, at)
            simd.store_row(exps, at, powers.exp(block))
            simd.store_row(twos, at, powers.exp2(block))
            simd.store_row(products, at, powers.exp2_mul(block, one_and_half))

    for values, error in (
        (np.linspace(-84, 84, 2**18, dtype=np.float32), 1.5e-7),
        (np.round(np.linspace(-600, 600, 2**14), 3), 5e-16),
    ):
        found = np.empty((3, values.size), values.dtype)
        each(*(part.reshape(-1, simd.lanes(values.dtype)) for part in (values, *found)))
        true = values.astype(np.float64)
        for own, right in zip(found, (np.exp(true), 2**true, 2**true * 2 ** (true / 2)), strict=True):
            assert np.abs(own / right - 1).max() < error


@numba.njit
def read_and_write(matrix, block, less, factor, first, back):
    query_blocks.read_block(matrix, first, block)
    query_blocks.write_gradient(block, less, factor, first, back)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("patches", [5, 16, 40, 64])
def test_blocks_of_queries_are_the_transpose(dtype, patches, rng):
    matrix = rng.standard_normal((patches, patches)).astype(dtype)
    width, back = simd.lanes(dtype), np.empty((patches, patches), dtype)
    less, factor = rng.standard_normal((1, width)).astype(dtype), rng.random((patches, width)).astype(dtype)
    for first in range(0, patches, width):
        block = np.full((patches, width), np.nan, dtype)
        read_and_write(matrix, block, less, factor, first, back)
        inside = min(width, patches - first)
        assert (block[:, :inside] == matrix[first : first + inside].T).all()
        assert not block[:, inside:].any()
        expected = ((block - less) * factor)[:, :inside].T
        np.testing.assert_allclose(
            back[first : first + inside], expected, rtol=1e-5 if dtype == np.float32 else 1e-14
        )


def test_clusters_that_are_cut_alike_share_tables():
    """Each key once, each run in one area of its cluster, and the first of an area marked; intervals go together."""
    together = {}
    for sizes in SIZES:
        layout = layout_of(sizes)
        plan = masks.key_plan(layout, np.dtype(np.float32), 33)
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


@numba.njit
def fill(cluster, visible, plan, slots, ends, chunks, shown, by_key, by_sample, hidden):
    """Both kinds of index bytes, and those of the masked keys."""
    order, cut, key_chunks, chunk_ends = plan
    masks.fill_slots(cluster, slots, ends, chunks)
    masks.fill_index_bytes(
        visible, slots, chunks, ends[1, -1], order, cut, key_chunks, chunk_ends, shown, by_key, by_sample
    )
    for k in range(ends.shape[1] - 1):
        low, high = chunk_ends[k], chunk_ends[k + 1]
        subset_sums.flip_index_bytes(by_sample, key_chunks, low, high, ends[0, k], ends[0, k + 1], hidden)


@pytest.mark.parametrize("sizes", ["three", "alike"])
def test_index_bytes_hold_the_masks(sizes, rng):
    layout = layout_of(sizes)
    samples = 33 if sizes == "alike" else 70
    plan = masks.key_plan(layout, np.dtype(np.float32), samples)
    cluster = rng.integers(0, 3, samples)
    visible = rng.random((samples, layout.patches)) < 0.5
    slots, ends, chunks = np.empty(samples, np.int64), np.empty((2, 4), np.int64), np.empty((9, 3), np.int64)
    shown = np.empty((samples, masks.padded(layout.patches, np.dtype(np.float32))), np.uint8)
    by_key = np.full((9, layout.patches, 8), 255, np.uint8)
    by_sample, hidden = (np.full((plan.most_chunks, samples, 8), 255, np.uint8) for _ in range(2))
    parts = plan.order, plan.cut, plan.chunks, plan.chunk_ends
    fill(cluster, visible.view(np.uint8), parts, slots, ends, chunks, shown, by_key, by_sample, hidden)
    assert (cluster[slots] == np.sort(cluster)).all()
    assert (ends[0] == np.searchsorted(np.sort(cluster), np.arange(4))).all()
    chunks = chunks[: ends[1, -1]]
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
        for at, (_, start, keys, _) in enumerate(plan.chunks[low:high]):
            expected = seen[:, plan.cut[k, start : start + keys]]
            found = [bits(by_sample[at, slot], keys) for slot in range(first, first + size)]
            assert found == expected.tolist()
            found = [bits(hidden[at, slot], keys) for slot in range(first, first + size)]
            assert found == (~expected).tolist()


@pytest.mark.parametrize("features", ["", None])
def test_powers_by_table_and_without(features, monkeypatch):
    """To a unit of float32's last digit; by the table also where exponents are far too large."""
    monkeypatch.setattr(numba.config, "CPU_FEATURES", features)
    if features is None and not simd.machine_has("avx512f"):
        pytest.skip("no table in a register")

    @numba.njit
    def each(values, found):
        third = simd.splat(np.float32(1 / 3))
        for at in range(values.shape[0]):
            simd.store_row(found, at, powers.exp2_mul(simd.load_row(values, at), third))

    values = np.linspace(-370, 380, 2**20, dtype=np.float32)
    found = np.empty_like(values)
    each(values.reshape(-1, 32), found.reshape(-1, 32))
    assert np.abs(found / np.exp2(values.astype(float) * np.float32(1 / 3)) - 1).max() < 1.5e-7
    if features is None:
        values = np.repeat(np.float32([-1e5, -6e2, 6e2, 1e5, -np.inf, np.inf, np.nan, 0.0]), 4)
        found = np.empty_like(values)
        each(values.reshape(-1, 32), found.reshape(-1, 32))
        np.testing.assert_array_equal(found[::4][[0, 1, 2, 3, 6, 7]], [0, 0, np.inf, np.inf, np.nan, 1])
