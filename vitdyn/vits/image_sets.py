"""Real images that come inside a package: handwritten digits, and photographs cut into crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitdyn._errors import invalid_value, require_integer
from vitdyn._extras import from_extra
from vitdyn.seeds import stream

PICTURES = (
    "astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "hubble_deep_field",
    "immunohistochemistry", "retina", "rocket",
)  # fmt: skip
"""Photographs that scikit-image holds in its own package."""

_FLAT, _TRIES = 0.02, 8


@dataclass(frozen=True, eq=False)
class Images:
    """Grey images with labels, values from 0 to 1, in two parts that share no pixel."""

    train: Float[Tensor, "image channel side side"]
    train_labels: Int[Tensor, " image"]
    test: Float[Tensor, "image channel side side"]
    test_labels: Int[Tensor, " image"]

    def standardised(self, images: Float[Tensor, "*batch side side"]) -> Float[Tensor, "*batch side side"]:
        """Return images in standard deviations of the training pixels, from their mean: what an encoder sees."""
        mean, deviation = self._pixels
        return (images - mean) / deviation

    def to(self, device: torch.device | str) -> Images:
        """Return the same on another device."""
        parts = (self.train, self.train_labels, self.test, self.test_labels)
        return Images(*(part.to(device) for part in parts))

    @cached_property
    def _pixels(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the training pixels: every view of every step asks for them."""
        return self.train.mean(), self.train.std()


@dataclass(frozen=True, kw_only=True)
class Digits:
    """scikit-learn's 1797 handwritten digits: 8 x 8 pixels, one channel, ten labels.

    ``test`` of them, drawn by ``seed``, are held out.
    """

    test: int = 500
    seed: int = 0
    side: ClassVar[int] = 8
    classes: ClassVar[int] = 10
    number: ClassVar[int] = 1797

    def __post_init__(self) -> None:
        require_integer("test", self.test, at_least=1)
        if self.test > self.number - 100:
            raise invalid_value("test", self.test, f"must leave 100 of the {self.number} digits to train on")
        require_integer("seed", self.seed, at_least=0)

    def load(self) -> Images:
        """Return the images. Equal specifications give equal bits."""
        return _digits(self)


@dataclass(frozen=True, kw_only=True)
class Photographs:
    """Square grey crops of the photographs in scikit-image's package; the label is which photograph.

    Each photograph is cut into square blocks of ``block`` pixels. Every third block of a row or column is held out, and
    a crop lies within one block, so that crops for training and for testing share no pixel. Each photograph gives
    ``train`` and ``test`` crops, their blocks and places drawn by ``seed``; crops that are nearly flat (standard
    deviation below 0.02) are passed over: they show nothing, and the logarithm of their spectrum has no bottom.
    """

    train: int = 256
    test: int = 64
    side: int = 32
    block: int = 64
    pictures: tuple[str, ...] = PICTURES
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in {"train": 1, "test": 1, "side": 2, "block": 2, "seed": 0}.items():
            require_integer(name, getattr(self, name), at_least=least)
        if self.block < self.side or self.block > 96:  # the smallest photograph has 300 pixels, three blocks
            raise invalid_value("block", self.block, f"must be from side = {self.side} to 96 pixels")
        known = isinstance(self.pictures, tuple) and set(self.pictures) <= set(PICTURES)
        if not known or len(set(self.pictures)) != len(self.pictures) or len(self.pictures) < 2:
            raise invalid_value(
                "pictures", self.pictures, f"must be two or more different names of {', '.join(PICTURES)}"
            )

    @property
    def classes(self) -> int:
        """How many labels there are."""
        return len(self.pictures)

    @property
    def number(self) -> int:
        """How many images there are, for training and for testing."""
        return self.classes * (self.train + self.test)

    def load(self) -> Images:
        """Return the crops. Equal specifications give equal bits."""
        return _crops(self)

    def corners(
        self, index: int, picture: Float[np.ndarray, "height width"]
    ) -> tuple[Int[np.ndarray, "crop 2"], Int[np.ndarray, "crop 2"]]:
        """Return the top left corners of the training and of the test crops of photograph ``index``."""
        shape = [size // self.block for size in picture.shape]
        rows, columns = np.indices(shape).reshape(2, -1)
        # diagonals: each row and column of blocks gives both parts about a third
        held_out = (rows + columns) % 3 == 2
        draw = stream(self.seed, "clusters", index)
        parts = []
        for count, chosen in ((self.train, ~held_out), (self.test, held_out)):
            # drawn all at once, so that what is flat moves no later place
            tries = _TRIES * count
            # first a block, then a place within it: no crop reaches into a block of the other part
            block = np.stack([rows, columns], 1)[chosen][draw.integers(chosen.sum(), size=tries)]
            places = block * self.block + draw.integers(self.block - self.side + 1, size=(tries, 2))
            spread = np.array([self.crop(picture, place).std() for place in places])
            # the first that show something, in the order of their draws
            parts.append(places[spread >= _FLAT][:count])
            if len(parts[-1]) < count:
                raise invalid_value(
                    "side", self.side, f"leaves {self.pictures[index]} too flat: take larger crops"
                )
        return parts[0], parts[1]

    def crop(self, picture: Float[np.ndarray, "height width"], place: Sequence[int]) -> np.ndarray:
        """Return the crop whose top left corner is ``place``."""
        return picture[place[0] : place[0] + self.side, place[1] : place[1] + self.side]


ImageSet = Digits | Photographs
IMAGE_SETS = (Digits, Photographs)


@lru_cache(maxsize=4)
def _digits(spec: Digits) -> Images:
    with from_extra("vits"):
        from sklearn.datasets import load_digits

    found = load_digits()
    # grey values run from 0 to 16
    images = torch.from_numpy(found.images).float()[:, None] / 16
    labels = torch.from_numpy(found.target).long()
    # by our own stream: numpy's and torch's global generators stay as they are
    order = torch.from_numpy(stream(spec.seed, "clusters").permutation(len(images)))
    test, train = order[: spec.test], order[spec.test :]
    return Images(images[train], labels[train], images[test], labels[test])


@lru_cache(maxsize=4)
def _crops(spec: Photographs) -> Images:
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for index, name in enumerate(spec.pictures):
        picture = grey_picture(name)
        for part, places in zip(parts, spec.corners(index, picture), strict=True):
            part += [spec.crop(picture, place) for place in places]
    train, test = (torch.from_numpy(np.stack(part)).float()[:, None] for part in parts)
    names = torch.arange(spec.classes)
    return Images(train, names.repeat_interleave(spec.train), test, names.repeat_interleave(spec.test))


@lru_cache(maxsize=len(PICTURES))
def grey_picture(name: str) -> Float[np.ndarray, "height width"]:
    """Return a whole photograph in grey, values from 0 to 1."""
    with from_extra("vits"):
        from skimage import color, data, util

    picture = util.img_as_float(getattr(data, name)())
    return color.rgb2gray(picture) if picture.ndim == 3 else picture
