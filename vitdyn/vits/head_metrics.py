"""The metrics of a checkpoint's attention: by block, image and head."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value, require_integer
from vitdyn._memory import machine_memory
from vitdyn.metrics.by_depth import attention_by_depth
from vitdyn.vits.architecture import Architecture
from vitdyn.vits.families import Assumed
from vitdyn.vits.image_folders import load_images
from vitdyn.vits.published import Checkpoint, forward
from vitdyn.vits.untrusted import printable, refused

METRICS = ("attention_distance", "mutual_information", "attention_entropy", "top_key_scores")


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadMetrics:
    """Metrics of the attention between patches, by name (see ``METRICS``), each (block, image, head).

    ``attention_distance`` in pixels of the image as it goes in, ``mutual_information`` normalised,
    ``attention_entropy`` in nats, ``top_key_scores`` the mean of the ``top`` largest. The tokens before the patches
    are dropped from queries and keys, and rows divided by what is left. ``patches`` is the number of keys, and
    ``assumed`` says what of the checkpoint stands nowhere and was taken by convention.
    """

    label: str
    values: dict[str, Float[np.ndarray, "block image head"]]
    top: int
    patches: int
    assumed: tuple[Assumed, ...] = ()

    def by_head(self, name: str) -> Float[np.ndarray, "block head"]:
        """Return a metric's mean over images; NaN where no image has a value."""
        return _mean(self.values[name], 1)

    def by_block(self, name: str) -> Float[np.ndarray, " block"]:
        """Return a metric's mean over images and heads; NaN where nothing has a value."""
        return _mean(self.values[name].reshape(len(self.values[name]), -1), 1)


def measure_heads(
    checkpoint: Checkpoint,
    images: Sequence[Path],
    *,
    top: int = 10,
    batch: int = 8,
    label: str | None = None,
    progress: Callable[[int], object] | None = None,
) -> HeadMetrics:
    """Measure the attention of every block and head on every image.

    Images go through ``batch`` at a time and each block's maps are measured and dropped before the next block's
    are made, so that memory does not grow with the number of images. ``progress`` is called with the number done.

    Raises ``ValueError`` for no images, for a model of other than three colours, for a batch that memory cannot hold,
    and where attention is not finite.
    """
    require_integer("top", top, at_least=1)
    device = checkpoint.weights["positions"].device
    require_measurable(checkpoint, images=len(images), batch=batch, device=device)
    shape = checkpoint.architecture

    def reduce(maps: Tensor) -> dict[str, Tensor]:
        # block by block: so the block of origin is told, and no NaN reaches a mean
        if not bool(maps.isfinite().all()):
            remedy = "its attention overflows: weights and constants of images are too large for each other"
            raise refused(checkpoint.path, remedy)
        grid = shape.rows, shape.columns
        return attention_by_depth([maps], grid, pitch=shape.patch, prefix=shape.prefix, top=top)

    parts = []
    for start in range(0, len(images), batch):
        chosen = images[start : start + batch]
        pixels = load_images(chosen, checkpoint.preprocessing)
        passed = forward(checkpoint, pixels, reduce=reduce, keep_residual=False)
        parts.append({name: torch.cat([each[name] for each in passed.attention]).cpu() for name in METRICS})
        if progress:
            progress(start + len(chosen))
    values = {name: torch.cat([part[name] for part in parts], 1).numpy() for name in METRICS}
    return HeadMetrics(
        label=label or checkpoint.path.stem,
        values=values,
        top=min(top, shape.patches),
        patches=shape.patches,
        assumed=checkpoint.assumed,
    )


def require_measurable(checkpoint: Checkpoint, *, images: int, batch: int, device: torch.device) -> None:
    """Raise ``ValueError`` unless so many images can go through, ``batch`` at a time, in the device's memory."""
    require_integer("batch", batch, at_least=1)
    require_integer("number of images", images, at_least=1)
    checkpoint.require_colours()
    # refused before an image is read; an allocator may kill the process instead of raising
    together, held = min(batch, images), _memory(device)
    size_of_number = checkpoint.weights["positions"].element_size()
    needed = together * bytes_per_image(checkpoint.architecture, size_of_number)
    if needed > held:
        what = f"images of {checkpoint.architecture.tokens:,} tokens in {printable(checkpoint.path.name)}"
        advice = "take fewer at a time" if together > 1 else "this machine is too small for this model"
        size = f"{needed / 2**30:,.1f} GiB, and there are {held / 2**30:,.1f}"
        raise invalid_value("batch", together, f"{what} would take about {size}: {advice}")


def bytes_per_image(shape: Architecture, element_size: int) -> int:
    """Return about what an image takes on its way through: maps in eight copies, the stream, the image itself."""
    # logits, softmax, and the intermediate tables of four metrics
    maps = 8 * shape.heads * shape.tokens**2
    stream = shape.tokens * (8 * shape.width + 2 * shape.hidden)
    pixels = 4 * shape.channels * shape.image_size[0] * shape.image_size[1]
    return (maps + stream + pixels) * element_size


def _memory(device: torch.device) -> float:
    """Return the bytes that are free on a GPU, else those of this machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return machine_memory() or inf


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the mean of the numbers along an axis, NaN left out; NaN where there is nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a mean over nothing, which is NaN here
        return np.nanmean(values, axis)
