"""What a plain Vision Transformer is: its sizes, and the shape of each of its tensors by our name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vitdyn._errors import invalid_value, require_integer, require_real

Shapes = dict[str, tuple[int, ...]]


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
    prefix: int = 1
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        for field in ("width", "depth", "heads", "patch", "rows", "columns", "channels", "hidden", "prefix"):
            require_integer(field, getattr(self, field), at_least=1)
        if self.width % self.heads:
            raise invalid_value("heads", self.heads, f"must divide the width, {self.width}")
        require_real("epsilon", self.epsilon, low=0, high=1, open_low=True)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of an image, in pixels."""
        return self.rows * self.patch, self.columns * self.patch

    @property
    def patches(self) -> int:
        """Number of patches of an image."""
        return self.rows * self.columns

    @property
    def tokens(self) -> int:
        """Number of tokens, those before the patches included."""
        return self.prefix + self.patches

    def products(self, tokens: int) -> int:
        """Return how many numbers are multiplied on the way of ``tokens`` tokens through all blocks."""
        # query, key, value, projection, and two maps of the MLP; then logits and weighted values
        maps = 4 * self.width**2 + 2 * self.width * self.hidden
        return self.depth * tokens * (maps + 2 * tokens * self.width)

    def shapes(self) -> Shapes:
        """Return the shape of every tensor by our name, in the order in which small ViTs draw their weights."""
        return {
            "class_token": (1, 1, self.width),
            "distillation_token": (1, 1, self.width),
            "positions": (1, self.tokens, self.width),
            "patch.weight": (self.width, self.channels, self.patch, self.patch),
            "patch.bias": (self.width,),
            **dict(block_shapes(self.width, self.hidden, self.depth)),
            "norm.weight": (self.width,),
            "norm.bias": (self.width,),
        }


def block_shapes(width: int, hidden: int, depth: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of every tensor of ``depth`` blocks: maps as (outputs, inputs), then norms."""
    maps = dict.fromkeys(("query", "key", "value", "proj"), (width, width))
    maps |= {"fc1": (hidden, width), "fc2": (width, hidden)}
    for number in range(depth):
        for name, shape in maps.items():
            yield f"blocks.{number}.{name}.weight", shape
            yield f"blocks.{number}.{name}.bias", shape[:1]
        for name in ("norm_attention", "norm_mlp"):
            yield f"blocks.{number}.{name}.weight", (width,)
            yield f"blocks.{number}.{name}.bias", (width,)
