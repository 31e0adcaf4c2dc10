"""A published Vision Transformer: its weights, its architecture, and what was read and what was not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from vitdyn._errors import require_choice, wrong
from vitdyn.checkpoints.architecture import Architecture, architecture_of
from vitdyn.checkpoints.beside import read_beside
from vitdyn.checkpoints.files import read_state_dict
from vitdyn.checkpoints.mapping import KeyReport, map_keys, split_joint
from vitdyn.checkpoints.preprocessing import Preprocessing, preprocessing_of

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """The encoder of a published model: tensors by our names (see :mod:`vitdyn.checkpoints.key_tables`).

    ``heads_from`` says where the number of heads comes from, ``report`` what became of every key.
    """

    path: Path
    weights: Mapping[str, Tensor]
    architecture: Architecture
    preprocessing: Preprocessing
    report: KeyReport
    heads_from: str

    def to(self, device: torch.device | str) -> Checkpoint:
        """Return the same with its weights on another device."""
        return replace(self, weights={name: tensor.to(device) for name, tensor in self.weights.items()})

    def describe(self) -> str:
        """Return what was read, what it is and how images go in, as three lines."""
        shape = self.architecture
        words = (
            f"{shape.depth} blocks of width {shape.width}, {shape.heads} heads of {shape.width // shape.heads} "
            f"({self.heads_from}), {shape.rows}×{shape.columns} patches of {shape.patch} pixels, "
            f"{shape.prefix} token{'s' if shape.prefix > 1 else ''} before them, epsilon {shape.epsilon:g}"
        )
        return f"{self.report.describe()}\n{words}\nimages: {self.preprocessing.describe()}"


def read_checkpoint(
    path: str | Path,
    *,
    heads: int | None = None,
    grid: tuple[int, int] | None = None,
    branch: str = "teacher",
    precision: str = "float32",
) -> Checkpoint:
    """Read MAE, MoCo v3, DINO, DeiT, or any plain ViT that timm or transformers name; run nothing that it holds.

    ``heads`` and ``grid`` (rows, columns) say what shapes cannot: left out, config.json beside the file decides
    (transformers' names only), or the convention for the width, and a square. ``branch`` is "teacher" or "student"
    of a full checkpoint of DINO.

    Raises ``ValueError`` for a file that cannot be read, that names no plain ViT, that lacks a key or holds an
    unknown one, or in which a shape is wrong or a number is not finite.
    """
    require_choice("precision", precision, PRECISIONS)
    state = read_state_dict(path, branch=branch)
    mapped = split_joint(map_keys(state))
    beside = read_beside(state.path, mapped)
    architecture, source = architecture_of(mapped, state.path, config=beside.config, heads=heads, grid=grid)
    return Checkpoint(
        path=state.path,
        weights={
            name: _number(name, value, state.path, PRECISIONS[precision])
            for name, value in mapped.tensors.items()
        },
        architecture=architecture,
        preprocessing=preprocessing_of(mapped.report, architecture.image_size, beside),
        report=mapped.report,
        heads_from=source,
    )


def _number(name: str, tensor: Tensor, path: Path, dtype: torch.dtype) -> Tensor:
    """Return a weight in the precision asked for, detached from whatever file and graph it came with."""
    if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_meta:
        raise wrong(
            "checkpoint",
            str(path),
            f"{name} holds {tensor.dtype}, {tensor.layout}: real numbers belong there",
        )
    value = tensor.detach().to(dtype).contiguous()
    if not bool(value.isfinite().all()):
        raise wrong("checkpoint", str(path), f"{name} holds numbers that are not finite")
    return value
