"""What a plain Vision Transformer is, read off the shapes of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

from torch import Tensor

from vitdyn._errors import require_integer, require_real, wrong
from vitdyn.checkpoints.beside import pair
from vitdyn.checkpoints.key_tables import HEADS_BY_WIDTH, MOCO_HEADS_BY_WIDTH, MOCO_PREFIX
from vitdyn.checkpoints.mapping import Mapped


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A plain ViT: ``depth`` blocks of ``heads`` heads on ``rows`` × ``columns`` patches of ``patch`` pixels a side.

    ``width`` is that of the residual stream and ``hidden`` that of the MLP; ``prefix`` counts the tokens before
    those of the patches (1, or 2 with a distillation token). A head has width/heads dimensions, and its logits
    are q·k/√(width/heads); norms are (x − mean)/√(variance + ε), ε = ``epsilon``.
    """

    width: int
    depth: int
    heads: int
    patch: int
    rows: int
    columns: int
    channels: int
    hidden: int
    prefix: int
    epsilon: float

    def __post_init__(self) -> None:
        for field in ("width", "depth", "heads", "patch", "rows", "columns", "channels", "hidden", "prefix"):
            require_integer(field, getattr(self, field), at_least=1)
        if self.width % self.heads:
            raise wrong("heads", self.heads, f"must divide the width, {self.width}")
        require_real("epsilon", self.epsilon, low=0, high=1, open_low=True)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of an image, in pixels."""
        return self.rows * self.patch, self.columns * self.patch

    @property
    def tokens(self) -> int:
        """Number of tokens, those before the patches included."""
        return self.prefix + self.rows * self.columns

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor by our name."""
        width, hidden = self.width, self.hidden
        maps = {
            "query": (width, width),
            "key": (width, width),
            "value": (width, width),
            "merge": (width, width),
        }
        maps |= {"widen": (hidden, width), "narrow": (width, hidden)}
        block: dict[str, tuple[int, ...]] = {f"{name}.weight": shape for name, shape in maps.items()}
        block |= {f"{name}.bias": shape[:1] for name, shape in maps.items()}
        norms = ("norm_attention.weight", "norm_attention.bias", "norm_mlp.weight", "norm_mlp.bias")
        block |= dict.fromkeys(norms, (width,))
        return {
            "class_token": (1, 1, width),
            "distillation_token": (1, 1, width),
            "positions": (1, self.tokens, width),
            "patch.weight": (width, self.channels, self.patch, self.patch),
            "patch.bias": (width,),
            **{f"blocks.{i}.{name}": shape for i in range(self.depth) for name, shape in block.items()},
            "norm.weight": (width,),
            "norm.bias": (width,),
        }


def architecture_of(
    mapped: Mapped, path: Path, *, config: Mapping[str, Any], heads: int | None, grid: tuple[int, int] | None
) -> tuple[Architecture, str]:
    """Return the architecture of mapped weights, and where the number of heads comes from.

    Every shape is checked. ``config`` holds what the file's own description says (its keys are those of
    transformers); ``heads`` and ``grid`` (rows, columns) go before it. Raises ``ValueError`` where a shape is wrong,
    the patches form no square and no grid is given, or nothing says how many heads there are.
    """
    tensors, prefix = mapped.tensors, 1 + ("distillation_token" in mapped.tensors)
    kernel, positions = tensors["patch.weight"], tensors["positions"]
    hidden = tensors["blocks.0.widen.weight"]
    if kernel.ndim != 4 or kernel.shape[-1] != kernel.shape[-2]:
        raise _misshapen(path, "patch.weight", kernel, "(width, channels, side, side)")
    if positions.ndim != 3 or positions.shape[1] <= prefix or hidden.ndim != 2:
        name, tensor = ("positions", positions) if hidden.ndim == 2 else ("blocks.0.widen.weight", hidden)
        raise _misshapen(path, name, tensor, "(1, token, width), or (hidden, width) for the MLP")
    rows, columns = _grid(positions.shape[1] - prefix, kernel.shape[-1], config, grid)
    number, source = _heads(kernel.shape[0], config, heads, mapped.report.prefix == MOCO_PREFIX)
    found = Architecture(
        width=kernel.shape[0],
        depth=mapped.depth,
        heads=number,
        patch=kernel.shape[-1],
        rows=rows,
        columns=columns,
        channels=kernel.shape[1],
        hidden=hidden.shape[0],
        prefix=prefix,
        epsilon=config.get("layer_norm_eps", mapped.layout.epsilon),
    )
    shapes = found.shapes()
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != shapes.get(name):
            raise _misshapen(path, name, tensor, str(shapes.get(name, "that of a third of its rows each")))
    return found, source


def _grid(
    patches: int, side: int, config: Mapping[str, Any], given: tuple[int, int] | None
) -> tuple[int, int]:
    size = config.get("image_size")
    if given is not None:
        rows, columns = given
    elif size is not None:
        height, width = pair("image_size", size)
        rows, columns = height // side, width // side
    else:
        rows = columns = isqrt(patches)
        if rows * columns != patches:
            raise wrong("grid", patches, "so many patches form no square: give the grid, (rows, columns)")
    if rows * columns != patches:
        raise wrong("grid", (rows, columns), f"must have as many patches as there are positions, {patches}")
    return rows, columns


def _heads(width: int, config: Mapping[str, Any], given: int | None, moco: bool) -> tuple[int, str]:
    if given is not None:
        require_integer("heads", given, at_least=1)
        return given, "as given"
    if "num_attention_heads" in config:
        return config["num_attention_heads"], "says config.json"
    if moco and width in MOCO_HEADS_BY_WIDTH:
        return MOCO_HEADS_BY_WIDTH[width], "the MoCo v3 convention for this width"
    if width in HEADS_BY_WIDTH:
        return HEADS_BY_WIDTH[width], "the convention for this width"
    if width % 64 == 0:
        return width // 64, "64 dimensions a head, a guess"
    raise wrong("heads", None, f"cannot be read off the shapes, nor guessed for a width of {width}: give it")


def _misshapen(path: Path, name: str, tensor: Tensor, wanted: str) -> ValueError:
    return wrong(
        "checkpoint", str(path), f"{name} has the shape {tuple(tensor.shape)}, which should be {wanted}"
    )
