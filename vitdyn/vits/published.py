"""A published Vision Transformer: its weights, its architecture, what was read and what was not, its forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value, require_choice
from vitdyn.vits.architecture import Architecture
from vitdyn.vits.families import Assumed, Overrides
from vitdyn.vits.functional_vit import Forward, run_vit
from vitdyn.vits.key_mapping import KeyReport, Mapped, map_keys, split_qkv
from vitdyn.vits.position_grid import with_all_positions
from vitdyn.vits.preprocessing import Preprocessing
from vitdyn.vits.recognition import architecture_of
from vitdyn.vits.sidecar import Evidence, read_sidecar
from vitdyn.vits.sidecar_preprocessing import preprocessing_of
from vitdyn.vits.state_files import read_state_dict
from vitdyn.vits.untrusted import listed, naming, printable, refused

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """The encoder of a published model: tensors by our names (see :mod:`vitdyn.vits.key_tables`).

    ``heads_from`` says where the number of heads comes from, ``report`` what became of every key, ``assumed`` what
    decides the numbers and stands neither in the file, nor beside it, nor was given. ``passed_over`` names what stood
    beside it and was not used.
    """

    path: Path
    weights: Mapping[str, Tensor]
    architecture: Architecture
    preprocessing: Preprocessing
    report: KeyReport
    heads_from: str
    assumed: tuple[Assumed, ...] = ()
    passed_over: tuple[str, ...] = ()

    def to(self, device: torch.device | str) -> Checkpoint:
        """Return the same with its weights on another device."""
        return replace(self, weights={name: tensor.to(device) for name, tensor in self.weights.items()})

    def require_colours(self) -> None:
        """Raise ``ValueError`` unless the model takes images of three colours, as image files give them."""
        if (channels := self.architecture.channels) != 3:
            count = f"{channels} channel{'s' if channels > 1 else ''}"
            raise refused(
                self.path,
                f"takes images of {count}, and image files are read as three colours: only RGB models are measured",
            )

    def describe(self) -> str:
        """Return what was read, what it is, how images go in, and a line for each thing that was assumed."""
        shape = self.architecture
        words = (
            f"{shape.depth} blocks of width {shape.width}, {shape.heads} heads of {shape.width // shape.heads} "
            f"({self.heads_from}), {shape.rows}×{shape.columns} patches of {shape.patch} pixels, "
            f"{shape.prefix} token{'s' if shape.prefix > 1 else ''} before them, epsilon {shape.epsilon:g}"
        )
        lines = [self.report.describe(), words, f"images: {self.preprocessing.describe()}"]
        lines += [f"beside it, not used: {listed(self.passed_over)}"] if self.passed_over else []
        return "\n".join([*lines, *(each.describe() for each in self.assumed)])


def read_checkpoint(
    path: str | Path,
    *,
    heads: int | None = None,
    grid: tuple[int, int] | None = None,
    epsilon: float | None = None,
    family: str | None = None,
    branch: str | None = None,
    prefix: str | None = None,
    precision: str = "float32",
) -> Checkpoint:
    """Read MAE, MoCo v3, DINO, DeiT, or any plain ViT that timm or transformers name; run nothing that it holds.

    ``heads``, ``grid`` (rows, columns), ``epsilon`` of the norms and ``family`` (one of ``FAMILIES``: whose heads,
    resizing and constants) say what shapes cannot. Left out, config.json beside the file decides, or the family that
    keys and fixed positions betray; else the convention for the width, a square, and the layout's defaults, each of
    which is then one of ``assumed``. ``branch`` names the part of a file that holds several, as "teacher" or
    "student" of DINO and "model_ema" of DeiT, and ``prefix`` what stands before every key of the encoder.

    Raises ``ValueError`` for a file that cannot be read, that names no plain ViT, that lacks a key or holds an
    unknown one, or in which a shape is wrong or a number is not finite.
    """
    require_choice("precision", precision, PRECISIONS)
    for field, name in (("branch", branch), ("prefix", prefix)):
        if not isinstance(name, str | None):
            raise invalid_value(field, name, "must be a name")
    overrides, assumed = Overrides(heads=heads, grid=grid, epsilon=epsilon, family=family), []
    # from file to names to numbers; each step refuses before the next makes anything large
    state = read_state_dict(path, branch=branch)
    mapped = split_qkv(map_keys(state, prefix=prefix))
    if mapped.rivals and branch is None and prefix is None:
        assumed.append(_choice(mapped))
    weights = {
        name: _number(name, value, state.path, PRECISIONS[precision])
        for name, value in mapped.tensors.items()
    }
    mapped, sidecar = replace(mapped, tensors=weights), read_sidecar(state.path, mapped)
    evidence = Evidence(mapped, sidecar, overrides, assumed.append)
    architecture, source, recognised = architecture_of(evidence, state.path)
    # a complaint about the size of images is one about this file
    with naming(f"for {printable(state.path.name)}"):
        preprocessing = preprocessing_of(architecture.image_size, evidence, recognised)
    positions = with_all_positions(weights["positions"], architecture.tokens)
    return Checkpoint(
        path=state.path,
        weights=weights | {"positions": positions},
        architecture=architecture,
        preprocessing=preprocessing,
        report=mapped.report,
        heads_from=source,
        assumed=tuple(assumed),
        passed_over=sidecar.passed_over,
    )


def _choice(mapped: Mapped) -> Assumed:
    """Return that one of several encoders was taken."""
    report = mapped.report
    taken = report.prefix.rstrip(".") or report.container
    return Assumed("branch", taken, f"beside {listed(mapped.rivals)}", "--branch or --prefix")


def _number(name: str, tensor: Tensor, path: Path, dtype: torch.dtype) -> Tensor:
    """Return a weight in the precision asked for, detached from whatever file and graph it came with."""
    # complex, integer, sparse or unallocated tensors have no place in a ViT
    if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_meta:
        raise refused(path, f"{name} holds {tensor.dtype}, {tensor.layout}: real numbers belong there")
    # half precision widens exactly; double may overflow, which the next line sees
    value = tensor.detach().to(dtype).contiguous()
    if not bool(value.isfinite().all()):
        raise refused(path, f"{name} holds numbers that are not finite")
    return value


@torch.no_grad()
def forward(
    checkpoint: Checkpoint,
    images: Float[Tensor, "image channel height width"],
    *,
    reduce: Callable[[Tensor], Any] | None = None,
    keep_residual: bool = True,
) -> Forward:
    """Run preprocessed images through a checkpoint, in its precision (equations: ``run_vit``).

    ``reduce`` is called with the attention of each block, (image, head, query, key), and what it returns is kept
    in place of it: maps of twelve blocks of a ViT-B/16 take 22 MB an image. Raises ``ValueError`` for images of
    another size, and for numbers in them that are not finite.
    """
    shape = checkpoint.architecture
    wanted = (shape.channels, *shape.image_size)
    if not isinstance(images, Tensor):
        raise invalid_value("images", type(images).__name__, "must be a tensor, as load_images returns")
    if images.ndim != 4 or tuple(images.shape[1:]) != wanted:
        must = f"must be (image, channel, height, width) with {wanted}"
        raise invalid_value("shape of images", tuple(images.shape), must)
    if not bool(images.isfinite().all()):
        raise invalid_value("images", tuple(images.shape), "hold numbers that are not finite")
    return run_vit(checkpoint.weights, shape, images, reduce=reduce, keep_residual=keep_residual)
