"""From an image to the numbers that a model was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import require_choice, require_integer, require_real, wrong
from vitdyn.checkpoints.beside import Beside, pair
from vitdyn.checkpoints.key_tables import MOCO_PREFIX, TIMM
from vitdyn.checkpoints.mapping import KeyReport

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""In the order in which Pillow numbers them, and so transformers' files."""


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
        sides = (self.resize,) if isinstance(self.resize, int) else self.resize or ()
        for field, lengths in (("resize", sides), ("crop", self.crop)):
            for length in lengths:
                require_integer(field, length, at_least=1)
        require_choice("filter", self.filter, FILTERS)
        for field, values in (("mean", self.mean), ("deviation", self.deviation)):
            if len(values) != 3:
                raise wrong(field, values, "must have three numbers, one a colour")
            for value in values:
                require_real(field, value, low=0, high=1e6, open_low=field == "deviation")
        require_real("scale", self.scale, low=0, high=1e6, open_low=True)

    def __call__(self, image: Image) -> Float[Tensor, "channel height width"]:
        """Return an image, in any of Pillow's modes of eight bits a channel, as a tensor in float32.

        Grey becomes three equal colours, and transparency is dropped, as the models' own readers do. Raises
        ``ValueError`` for an image of more than eight bits a channel, which Pillow would clip.
        """
        self.require_eight_bits(image)
        small = _centre(self._resized(image.convert("RGB")), self.crop)
        colours = np.asarray(small, dtype=np.float32) * np.float32(self.scale)
        normal = (colours - np.array(self.mean, np.float32)) / np.array(self.deviation, np.float32)
        return torch.from_numpy(np.ascontiguousarray(normal.transpose(2, 0, 1)))

    @staticmethod
    def require_eight_bits(image: Image) -> None:
        """Raise ``ValueError`` for an image of more than eight bits a channel."""
        if image.mode.startswith("I") or image.mode == "F":
            raise wrong("image", image.mode, "has more than eight bits a channel: convert it")

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

    def _resized(self, image: Image) -> Image:
        from PIL import Image as Pillow

        if self.resize is None:
            return image
        width, height = image.size
        if isinstance(self.resize, int):
            short = min(width, height)
            size = (self.resize * width // short, self.resize * height // short)
        else:
            size = (self.resize[1], self.resize[0])
        return image.resize(size, Pillow.Resampling[self.filter.upper()])


def _centre(image: Image, crop: tuple[int, int]) -> Image:
    """Return the centre of an image; a margin that the image lacks is black, as in torchvision."""
    left, top = round((image.width - crop[1]) / 2), round((image.height - crop[0]) / 2)
    return image.crop((left, top, left + crop[1], top + crop[0]))


def preprocessing_of(report: KeyReport, size: tuple[int, int], beside: Beside) -> Preprocessing:
    """Return the preprocessing of a checkpoint whose images measure ``size``.

    A description beside the file decides. Without one, MAE, DINO and DeiT resize the shorter side to 256 (bicubic)
    and crop 224, both scaled to ``size``, with ImageNet's mean and deviation; so does MoCo v3, bilinear, and so do
    transformers' files of MAE and DeiT; transformers' other ViTs resize to ``size`` (bilinear) with mean and
    deviation of one half.
    """
    if beside.preprocessor:
        return _of_transformers(beside.preprocessor, size)
    if beside.pretrained:
        return _of_timm(beside.pretrained, size)
    moco, decoder = report.prefix == MOCO_PREFIX, "decoder" in dict(report.set_aside)
    kind = beside.config.get("model_type", "vit_mae" if decoder else "vit")
    if report.layout == TIMM.name or kind in ("vit_mae", "deit"):
        return Preprocessing(
            resize=min(size) * 256 // 224,
            crop=size,
            filter="bilinear" if moco else "bicubic",
            source=f"constants of {'MoCo v3' if moco else 'MAE, DINO and DeiT'}",
        )
    return Preprocessing(
        resize=size,
        crop=size,
        mean=HALF,
        deviation=HALF,
        filter="bilinear",
        source="transformers' defaults for a ViT, no preprocessor_config.json",
    )


def _of_transformers(told: Mapping[str, Any], size: tuple[int, int]) -> Preprocessing:
    """Read transformers' ``preprocessor_config.json``; a size that is not the checkpoint's is refused."""
    wanted, crop = told.get("size", size), None
    if isinstance(wanted, Mapping):
        edge = wanted.get("shortest_edge")
        resize: Any = edge if edge is not None else (wanted.get("height"), wanted.get("width"))
    else:
        resize = pair("size", wanted)
    if told.get("do_center_crop", False):
        crop = told.get("crop_size", size)
        crop = (
            (crop.get("height"), crop.get("width")) if isinstance(crop, Mapping) else pair("crop_size", crop)
        )
    resize = resize if told.get("do_resize", True) else None
    seen = crop or (resize if isinstance(resize, tuple) else size)
    if seen != size:
        raise wrong(
            "preprocessor_config.json", seen, f"must give images of {size}, which the checkpoint was made for"
        )
    normal = told.get("do_normalize", True)
    number = told.get("resample", FILTERS.index("bilinear"))
    require_choice("resample", str(number), [str(index) for index in range(len(FILTERS))])
    return Preprocessing(
        resize=resize,
        crop=size,
        mean=tuple(told.get("image_mean", HALF)) if normal else (0.0, 0.0, 0.0),
        deviation=tuple(told.get("image_std", HALF)) if normal else (1.0, 1.0, 1.0),
        filter=FILTERS[int(number)],
        scale=told.get("rescale_factor", 1 / 255) if told.get("do_rescale", True) else 1.0,
        source="preprocessor_config.json",
    )


def _of_timm(told: Mapping[str, Any], size: tuple[int, int]) -> Preprocessing:
    """Read timm's ``pretrained_cfg``."""
    part = told.get("crop_pct", 0.9)
    require_real("crop_pct", part, low=0, high=1, open_low=True)
    return Preprocessing(
        resize=int(min(size) / part),
        crop=size,
        mean=tuple(told.get("mean", HALF)),
        deviation=tuple(told.get("std", HALF)),
        filter=told.get("interpolation", "bicubic"),
        source="pretrained_cfg in config.json",
    )
