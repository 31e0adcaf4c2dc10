"""Which preprocessing a checkpoint has: descriptions beside the weights, transformers' and timm's, or its family's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vitdyn._errors import require_choice, require_integer, require_real, wrong
from vitdyn.checkpoints.families import FAMILIES, HALF, IMAGENET_DEVIATION, IMAGENET_MEAN, Assume, Assumed
from vitdyn.checkpoints.preprocessing import FILTERS, Preprocessing
from vitdyn.checkpoints.sidecar import Beside
from vitdyn.checkpoints.untrusted import listed, naming

_SIDES = {"height", "width"}


def preprocessing_of(
    size: tuple[int, int],
    beside: Beside,
    *,
    told: str | None,
    recognised: str | None,
    timm: bool,
    assume: Assume,
) -> Preprocessing:
    """Return the preprocessing of a checkpoint whose images measure ``size``.

    The constants of the family that was told decide, then a description beside the file, then those of the family
    that was recognised. Else ``assume`` learns which were taken: for timm's names those that MAE, DINO and DeiT
    share, for transformers' a resize to ``size`` (bilinear) with mean and deviation of one half.
    """
    remedy = "--family or a description beside the file"
    if told is None and beside.preprocessor:
        return _of_transformers(beside.preprocessor, size, assume)
    if told is None and beside.pretrained:
        return _of_timm(beside.pretrained, size)
    if (family := told or recognised) is not None:
        return _of_family(family, size, f"constants of {FAMILIES[family].words}")
    if timm:
        words = "constants of MAE, DINO and DeiT"
        others = "MoCo v3's are bilinear, and timm's augreg has mean and deviation of one half"
        assume(Assumed("preprocessing", words, others, remedy))
        return _of_family("mae", size, words)
    words = "transformers' defaults for a ViT"
    assume(Assumed("preprocessing", words, "no preprocessor_config.json", remedy))
    return Preprocessing(
        resize=size,
        crop=size,
        mean=HALF,
        deviation=HALF,
        filter="bilinear",
        source=f"{words}, no preprocessor_config.json",
    )


def _of_family(name: str, size: tuple[int, int], source: str) -> Preprocessing:
    family = FAMILIES[name]
    part, whole = family.part
    return Preprocessing(
        resize=min(size) * whole // part,
        crop=size,
        mean=family.mean,
        deviation=family.deviation,
        filter=family.filter,
        source=source,
    )


@dataclass(frozen=True)
class Description:
    """The fields of a JSON file by its name; a complaint about one names both."""

    file: str
    fields: Mapping[str, Any]

    @contextmanager
    def reading(self, field: str, default: object) -> Iterator[Any]:
        """Lend the value of a field, ``default`` where it is left out."""
        with naming(f"{field} of {self.file}"):
            yield self.fields.get(field, default)

    def flag(self, field: str, default: bool) -> bool:
        """Return a truth value; null is left out."""
        value = default if self.fields.get(field) is None else self.fields[field]
        if not isinstance(value, bool):
            raise wrong(field, value, f"must be true or false ({self.file})")
        return value

    def colours(self, field: str, default: tuple[float, ...], *, above_0: bool) -> tuple[float, ...]:
        """Return three numbers, none negative."""
        with self.reading(field, default) as value:
            if not isinstance(value, (list, tuple)) or len(value) != 3:
                raise wrong(field, value, "must be three numbers, one a colour")
            for each in value:
                require_real(field, each, low=0, high=1e6, open_low=above_0)
            return tuple(value)

    def number(self, field: str, default: float, *, low: float, high: float) -> float:
        """Return a number in [``low``, ``high``]."""
        with self.reading(field, default) as value:
            require_real(field, value, low=low, high=high)
            return value

    def sides(self, field: str, default: tuple[int, int]) -> tuple[int, int]:
        """Return (height, width) of a size that is given as one number, as two, or under these names."""
        with self.reading(field, default) as value:
            if isinstance(value, Mapping) and set(value) == _SIDES:
                value = (value["height"], value["width"])
            both = value if isinstance(value, (list, tuple)) else (value, value)
            if len(both) != 2:
                raise wrong(field, value, "must be one length, or a height and a width")
            for side in both:
                require_integer(field, side, at_least=1)
            return both[0], both[1]


def _of_transformers(fields: Mapping[str, Any], size: tuple[int, int], assume: Assume) -> Preprocessing:
    """Read transformers' ``preprocessor_config.json``; a size that is not the checkpoint's is refused."""
    told = Description("preprocessor_config.json", fields)
    if told.flag("do_pad", False):
        raise wrong("do_pad", True, f"images are never padded here ({told.file})")
    resizes, crops, normal = (
        told.flag(name, default)
        for name, default in (("do_resize", True), ("do_center_crop", False), ("do_normalize", True))
    )
    resize: Any = _resize(told, size) if resizes else None
    crop = told.sides("crop_size", size) if crops else None
    seen = crop or (resize if isinstance(resize, tuple) else size)
    if seen != size:
        raise wrong(told.file, seen, f"must give images of {size}, which the checkpoint was made for")
    used = [*["size", "resample"] * resizes, *["image_mean", "image_std"] * normal, *["crop_size"] * crops]
    _assume_missing(told, used, assume)
    with told.reading("resample", FILTERS.index("bilinear")) as number:
        require_choice("resample", str(number), [str(index) for index in range(len(FILTERS))])
    scale = (
        told.number("rescale_factor", 1 / 255, low=1e-9, high=1e6) if told.flag("do_rescale", True) else 1.0
    )
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    deviation: tuple[float, ...] = (1.0, 1.0, 1.0)
    if normal:
        mean = told.colours("image_mean", HALF, above_0=False)
        deviation = told.colours("image_std", HALF, above_0=True)
    with told.reading("size", None):
        return Preprocessing(
            resize=resize,
            crop=size,
            mean=mean,
            deviation=deviation,
            filter=FILTERS[int(number)],
            scale=scale,
            source=told.file,
        )


def _resize(told: Description, size: tuple[int, int]) -> int | tuple[int, int]:
    value = told.fields.get("size", size)
    if not isinstance(value, Mapping) or set(value) == _SIDES:
        return told.sides("size", size)
    if set(value) != {"shortest_edge"}:
        raise wrong("size", value, f"must have a shortest_edge, or a height and a width ({told.file})")
    with told.reading("size", size):
        require_integer("shortest_edge", value["shortest_edge"], at_least=1)
    return value["shortest_edge"]


def _assume_missing(told: Description, used: list[str], assume: Assume) -> None:
    """Say which fields are left out, unless the file names the processor whose defaults are taken."""
    kind = told.fields.get("image_processor_type", told.fields.get("feature_extractor_type"))
    missing = [name for name in used if name not in told.fields]
    if missing and not str(kind).startswith("ViT"):
        value = f"transformers' defaults for a ViT, of {listed(missing)}"
        assume(Assumed("preprocessing", value, f"{told.file} leaves them out", "--family or that file"))


def _of_timm(fields: Mapping[str, Any], size: tuple[int, int]) -> Preprocessing:
    """Read timm's ``pretrained_cfg``; what it leaves out has timm's own defaults."""
    told = Description("config.json", fields)
    part = told.number("crop_pct", 0.875, low=1e-6, high=1)
    with told.reading("interpolation", "bicubic") as kind:
        require_choice("interpolation", kind, FILTERS)
    with told.reading("crop_mode", "center") as mode:
        require_choice("crop_mode", mode, ("center", "squash"))
    lengths = (int(size[0] / part), int(size[1] / part))
    mean = told.colours("mean", IMAGENET_MEAN, above_0=False)
    deviation = told.colours("std", IMAGENET_DEVIATION, above_0=True)
    with told.reading("crop_pct", None):
        return Preprocessing(
            resize=lengths if mode == "squash" else int(min(size) / part),
            crop=size,
            mean=mean,
            deviation=deviation,
            filter=kind,
            source="pretrained_cfg in config.json",
        )
