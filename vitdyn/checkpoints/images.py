"""A folder of images, some of which may be broken or no images at all."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_integer, wrong
from vitdyn.checkpoints.preprocessing import Preprocessing

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """The images of a folder in the order of their paths, and what in it could not be read, each with the reason."""

    paths: tuple[Path, ...]
    skipped: tuple[tuple[Path, str], ...]


def find_images(folder: str | Path, *, limit: int | None = None) -> ImageFolder:
    """Decode the files of a folder and of those inside it, in order, until ``limit`` are good.

    Raises ``ValueError`` where there is no such folder, or no image that can be read in it.
    """
    root = Path(folder)
    if limit is not None:
        require_integer("limit", limit, at_least=1)
    if not root.is_dir():
        raise wrong("images", str(root), "no such folder")
    good: list[Path] = []
    skipped: list[tuple[Path, str]] = []
    for path in sorted(each for each in root.rglob("*") if each.is_file()):
        if len(good) == limit:
            break
        try:
            _decoded(path)
            good.append(path)
        except Exception as error:  # Pillow raises many kinds for broken files
            skipped.append((path, _reason(error)))
    if not good:
        raise wrong("images", str(root), f"holds no image that can be read ({len(skipped)} other files)")
    return ImageFolder(paths=tuple(good), skipped=tuple(skipped))


def load_images(
    paths: Sequence[Path], preprocessing: Preprocessing
) -> Float[Tensor, "image channel height width"]:
    """Return images as a preprocessed batch."""
    return torch.stack([preprocessing(_decoded(path)) for path in paths])


def _decoded(path: Path) -> Image:
    from PIL import Image

    with warnings.catch_warnings(), Image.open(path) as image:
        warnings.simplefilter("ignore")  # oddities of metadata; what cannot be decoded is an error
        image.load()
        Preprocessing.require_eight_bits(image)
        return image.copy()


def _reason(error: Exception) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        return "no image"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
