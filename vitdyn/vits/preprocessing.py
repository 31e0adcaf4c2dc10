"""From an image to the numbers that a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value, require_choice, require_integer, require_real
from vitdyn.vits.families import IMAGENET_DEVIATION, IMAGENET_MEAN

if TYPE_CHECKING:
    from PIL.Image import Image

FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""In the order in which Pillow numbers them, and so transformers' files."""

MOST_SIDE, MOST_PIXELS = 2**16 - 1, 2**27
"""What an image may measure, before and after it is resized: a side as long as JPEG's, and 512 MiB in memory."""

_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Resize, crop the centre, (x/255 − mean)/deviation by colour.

    ``resize`` is the length of the shorter side, the shape kept, or (height, width), or None for neither;
    ``crop`` is (height, width) of what goes in. ``source`` says whose constants these are.
    """

    resize: int | tuple[int, int] | None
    crop: tuple[int, int]
    mean: tuple[float, ...] = IMAGENET_MEAN
    deviation: tuple[float, ...] = IMAGENET_DEVIATION
    filter: str = "bicubic"
    scale: float = 1 / 255
    source: str = "given"

    def __post_init__(self) -> None:
        # one length stands for the shorter side; its square bounds what it can make of any image
        square = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        for field, lengths in (("resize", (1, 1) if square is None else square), ("crop", self.crop)):
            if not isinstance(lengths, (tuple, list)) or len(lengths) != 2:
                raise invalid_value(field, getattr(self, field), "must be whole numbers, (height, width)")
            for length in lengths:
                require_integer(field, length, at_least=1)
            if prod(lengths) > MOST_PIXELS or max(lengths) > MOST_SIDE:
                raise invalid_value(field, getattr(self, field), f"must make at most {MOST_PIXELS:,} pixels")
        require_choice("filter", self.filter, FILTERS)
        require_colours("mean", self.mean)
        require_colours("deviation", self.deviation, above_0=True)
        require_real("scale", self.scale, low=1e-9, high=1e6)

    def __call__(self, image: Image) -> Float[Tensor, "channel height width"]:
        """Return an image, in any of Pillow's modes of eight bits a channel, as a tensor in float32.

        Grey becomes three equal colours, and transparency is dropped, as the models' own readers do. Raises
        ``ValueError`` for an image that is refused (see ``require_fits``).
        """
        self.require_fits(image)
        colours = image if image.mode == "RGB" else image.convert("RGB")  # converting copies, needed or not
        small = _centre(self._resized(colours), self.crop)
        # in single precision step by step, as torchvision and transformers do
        values = np.asarray(small, dtype=np.float32) * np.float32(self.scale)
        normal = (values - np.array(self.mean, np.float32)) / np.array(self.deviation, np.float32)
        return torch.from_numpy(np.ascontiguousarray(normal.transpose(2, 0, 1)))

    def require_fits(self, image: Image) -> None:
        """Raise ``ValueError`` for an image that cannot be taken, or would make too many pixels; decode nothing."""
        require_readable(image)
        # the shorter side is fixed, so a thin image grows without bound along the other
        width, height = self._resized_to(image)
        if width * height > MOST_PIXELS:
            shown = f"{image.width}×{image.height}"
            raise invalid_value(
                "image", shown, f"is so thin that it would be resized to {width}×{height}: crop it"
            )

    def describe(self) -> str:
        """Return what is done, in one line."""
        crop = f"{self.crop[0]}×{self.crop[1]}"
        first = {int: f"shorter side to {self.resize}", tuple: "resized"}.get(
            type(self.resize), "not resized"
        )
        if isinstance(self.resize, tuple):
            first = f"resized to {self.resize[0]}×{self.resize[1]}"
        numbers = ", ".join(
            f"{name} {values}" for name, values in (("mean", self.mean), ("std", self.deviation))
        )
        return f"{first} ({self.filter}), centre {crop}, {numbers}: {self.source}"

    def _resized_to(self, image: Image) -> tuple[int, int]:
        """Return the width and height that an image is resized to."""
        width, height = image.size
        if self.resize is None:
            return width, height
        if isinstance(self.resize, int):
            # rounded down, as torchvision does
            short = min(width, height)
            return self.resize * width // short, self.resize * height // short
        return self.resize[1], self.resize[0]

    def _resized(self, image: Image) -> Image:
        from PIL import Image as Pillow

        if self.resize is None:
            return image
        return image.resize(self._resized_to(image), Pillow.Resampling[self.filter.upper()])


def require_colours(field: str, values: object, *, above_0: bool = False) -> None:
    """Raise unless ``values`` are three numbers, one a colour, none negative."""
    if not isinstance(values, (tuple, list)) or len(values) != 3:
        raise invalid_value(field, values, "must be three numbers, one a colour")
    for value in values:
        require_real(field, value, low=0, high=1e6, open_low=above_0)


def require_readable(image: Image) -> None:
    """Raise ``ValueError`` for an image of more than eight bits a channel, or of too many pixels."""
    width, height = image.size
    if image.mode not in _EIGHT_BITS:
        deep = image.mode.startswith("I") or image.mode == "F"
        remedy = "has more than eight bits a channel" if deep else f"none of {', '.join(_EIGHT_BITS)}"
        raise invalid_value("image", image.mode, f"{remedy}: convert it")
    if min(width, height) < 1 or max(width, height) > MOST_SIDE or width * height > MOST_PIXELS:
        limit = f"{MOST_SIDE:,} pixels a side and {MOST_PIXELS:,} in all"
        raise invalid_value("image", f"{width}×{height}", f"must have no more than {limit}: make it smaller")


def _centre(image: Image, crop: tuple[int, int]) -> Image:
    """Return the centre of an image; a margin that the image lacks is black, as in torchvision."""
    # rounded as torchvision does, half to even
    left, top = round((image.width - crop[1]) / 2), round((image.height - crop[0]) / 2)
    return image.crop((left, top, left + crop[1], top + crop[0]))
