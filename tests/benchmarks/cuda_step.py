"""How long one step takes on a GPU, beside what the GPU can do (``python tests/benchmarks/cuda_step.py --help``).

Measures on the device itself: the bandwidth of a copy, the rate of float32 and of bfloat16 products; then the parts
of a step of masked reconstruction, the fused gradient's error against float64, and the whole step as a replayed
graph. Prints one table, then one line of JSON. Without a GPU it says so and prints the bytes and operations alone.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from statistics import median
from types import SimpleNamespace

import torch

from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics.captured import CudaGraphStepper
from vitdyn.dynamics.device_batches import DeviceBatches
from vitdyn.dynamics.group import Group
from vitdyn.dynamics.optimizers import GradientDescent
from vitdyn.kernels import Correlations, torch_backend
from vitdyn.kernels.workspace import Workspace
from vitdyn.objectives import MaskedReconstruction

REPEATS = 20


@dataclass(frozen=True)
class Size:
    """Seeds, patches, samples, areas."""

    seeds: int
    patches: int
    samples: int
    areas: int

    @property
    def layout(self) -> PatchLayout:
        small = self.patches // (2 * self.areas)
        return PatchLayout.from_sizes(
            [self.patches - (self.areas - 1) * small] + [small] * (self.areas - 1), arrangement="contiguous"
        )

    @property
    def operations(self) -> float:
        """Multiplications and additions of the two products, in float32."""
        return 4.0 * self.seeds * self.patches**2 * self.samples

    @property
    def bytes(self) -> float:
        """Device memory that a step moves at least: Υ, its partial gradient, masks written and read, latents."""
        masks = 2 * 4 * self.samples * -(-self.patches // 32)
        return self.seeds * (12.0 * self.patches**2 + masks + 32 * self.areas * self.samples)


def milliseconds(call, repeats: int = REPEATS) -> float:
    """Return the median time of a call on the device."""
    for _ in range(3):
        call()
    times = []
    for _ in range(repeats):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    return median(times)


def rates() -> dict[str, float]:
    """Return the device's measured rates: TB/s of a copy, TFLOP/s of products."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    found = {"copy TB/s": 2 * source.numel() / milliseconds(lambda: target.copy_(source)) / 1e9}
    torch.backends.cuda.matmul.allow_tf32 = False
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        left = torch.randn(8192, 8192, device="cuda").to(dtype)
        taken = milliseconds(lambda left=left: left @ left)
        found[f"{name} TFLOP/s"] = 2 * 8192**3 / taken / 1e9
    return found


def problem(size: Size, dtype: torch.dtype = torch.float32):
    """Return steps of descent after a few of which correlations are no longer 0."""
    source = DeviceBatches(
        PatchGenerator(layout=size.layout),
        MaskedReconstruction(),
        tuple(range(size.seeds)),
        size.samples,
        dtype,
        torch.device("cuda"),
    )
    correlations = Correlations.zeros(size.layout, size.seeds, dtype=dtype, device="cuda")
    unset = torch.full((size.seeds,), -1, device="cuda")
    rows = SimpleNamespace(optimizer=GradientDescent(learning_rate=4.0))
    return source, CudaGraphStepper(Group(rows, correlations, {}, {}, unset), source)


def errors(size: Size) -> dict[str, float]:
    """Return the fused gradient's largest error, as a part of the largest entry, against products in float64."""
    few = Size(4, size.patches, size.samples, size.areas)
    source, steps = problem(few)
    steps.advance(20)
    batch, (visible,) = source.training(1000)
    from vitdyn.kernels.cuda import backend as flash

    found = flash.residual_gradient(steps.group.correlations, batch, visible, 1 / batch.count, Workspace())
    exact = torch_backend.residual_gradient(
        steps.group.correlations.map(torch.Tensor.double),
        replace(batch, latents=batch.latents.double()),
        visible,
        1 / batch.count,
        Workspace(),
    )
    pairs = zip(found.named().items(), exact.named().values(), strict=True)
    return {
        f"error of {name}": float((part - truth).abs().max() / truth.abs().max())
        for (name, part), truth in pairs
    }


def parts(size: Size) -> dict[str, float]:
    """Return the milliseconds of each part of a step, and of the whole as a graph."""
    from vitdyn.kernels.cuda import backend as flash

    source, steps = problem(size)
    steps.advance(3)
    step = torch.tensor(5, device="cuda")
    batch = source.batch(step)
    tables = flash.slots(size.layout, step.device)
    words = source.words(step, batch.cluster, tables.position)
    tiles = flash.tile_samples(batch.cluster, size.layout, ordered=True)
    blocks = steps.group.correlations.map(torch.clone).named().values()
    given = flash.Problem(size.layout, *blocks, batch.latents, words, tiles, tables)
    rates = torch.zeros(size.seeds, device="cuda")
    gradient, scale = flash.empty_gradient(given, Workspace()), 1 / batch.count
    return {
        "samples": milliseconds(lambda: source.batch(step)),
        "masks": milliseconds(lambda: source.words(step, batch.cluster, tables.position)),
        "gradient and update": milliseconds(
            lambda: flash.launch_residual(given, scale, gradient, (rates, steps.group.first_bad, step))
        ),
        "gradient alone": milliseconds(lambda: flash.launch_residual(given, scale, gradient)),
        "step": milliseconds(lambda: steps.advance(10)) / 10,
    }


def try_blocks(size: Size) -> dict[str, float]:
    """Return the milliseconds of the fused kernel for several shapes of blocks and numbers of warps."""
    from vitdyn.kernels.cuda import backend as flash

    found = {}
    kept = flash.block_sizes, flash.WARPS, flash.STAGES, flash.SPLIT
    shapes = [(64, 64, 8), (64, 32, 4), (64, 32, 8), (128, 32, 8), (64, 128, 8), (64, 128, 16), (32, 64, 4)]
    for queries, samples, warps in shapes:
        for split in (True, False):
            flash.block_sizes = lambda layout, count, shape=(queries, samples): shape
            flash.WARPS, flash.SPLIT = warps, split
            try:
                found[f"{queries} x {samples}, {warps} warps, split {split}"] = parts(size)[
                    "gradient and update"
                ]
            except Exception as error:  # a shape that does not fit is a result too
                print(f"{queries} x {samples}, {warps} warps: {type(error).__name__}: {str(error)[:100]}")
    flash.block_sizes, flash.WARPS, flash.STAGES, flash.SPLIT = kept
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("seeds", 1024), ("patches", 256), ("samples", 256), ("areas", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--blocks", action="store_true", help="try other shapes of blocks too (minutes)")
    options = vars(parser.parse_args())
    blocks = options.pop("blocks")
    size = Size(**options)
    table: dict[str, float] = {"operations": size.operations, "bytes": size.bytes}
    if torch.cuda.is_available():
        table |= rates() | errors(size)
        table |= {f"{name} ms": taken for name, taken in parts(size).items()}
        step = table["step ms"] / 1e3
        table["TB/s of the step"] = size.bytes / step / 1e12
        table["part of the copy's rate"] = table["TB/s of the step"] / table["copy TB/s"]
        table["TFLOP/s of the step, three products for one"] = 3 * size.operations / step / 1e12
        table["part of the bfloat16 rate"] = (
            table["TFLOP/s of the step, three products for one"] / table["bfloat16 TFLOP/s"]
        )
        if blocks:
            table |= {f"{name} ms": taken for name, taken in try_blocks(size).items()}
    else:
        print("no GPU here: bytes and operations of a step alone")
    for name, value in table.items():
        print(f"{name:48s} {value:12.4g}")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    print(json.dumps({"device": device, **options, **table}))


if __name__ == "__main__":
    main()
